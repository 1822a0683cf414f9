#!/bin/bash

# Parameters
#SBATCH --account=project-1
#SBATCH --array=0-624%16
#SBATCH --comment=cemiface:0123456789ab:generate
#SBATCH --constraint='a100&nvlink'
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterok:17:18,afterany:19
#SBATCH --error=/runs/demo/generate/logs/submitit/%A_%a_0_log.err
#SBATCH --exclude='n[7-8]'
#SBATCH --gpus-per-node=4
#SBATCH --job-name=demo.generate
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=256GB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/runs/demo/generate/logs/submitit/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=30

# setup
export NCCL_SOCKET_IFNAME=ib0
export TOLD='it'"'"'s $HOME; `id`'
cemiface_failed() { echo "cemiface: a line of setup in the cluster file failed (exit code $1): $2" >&2; exit 78; }
eval 'module load cuda/12.6' || cemiface_failed $? 'module load cuda/12.6'
eval 'echo "$HOSTNAME; it works"' || cemiface_failed $? 'echo "$HOSTNAME; it works"'

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/demo/generate/logs/submitit/%A_%a_%t_log.out --error /runs/demo/generate/logs/submitit/%A_%a_%t_log.err --cpus-per-task=8 --kill-on-bad-exit=0 PYTHON -S -E /runs/demo/code/0123456789ab/slurm/start.py -u -m submitit.core._submit /runs/demo/generate/logs/submitit
