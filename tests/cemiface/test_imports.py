from __future__ import annotations

import subprocess
import sys


def test_configs_and_costs_import_without_torch():
    rooms = ("diffusion", "recognition", "semihard")
    modules = [f"cemiface.{room}.config" for room in rooms] + ["cemiface.semihard.cost", "cemiface.diffusion.cost"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
