#!/bin/bash

# Parameters
#SBATCH --comment=cemiface:0123456789ab:generate
#SBATCH --cpus-per-task=1
#SBATCH --error=/runs/demo/generate/logs/submitit/%j_0_log.err
#SBATCH --job-name=demo.generate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/demo/generate/logs/submitit/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=240

# setup

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/demo/generate/logs/submitit/%j_%t_log.out --error /runs/demo/generate/logs/submitit/%j_%t_log.err --cpus-per-task=1 --kill-on-bad-exit=0 PYTHON -S -E /runs/demo/code/0123456789ab/slurm/start.py -u -m submitit.core._submit /runs/demo/generate/logs/submitit
