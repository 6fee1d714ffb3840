"""Makes the Python of the protobuf files anew: ``python -m deploy.reference.protobuf``. It needs ``grpcio-tools``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.terminal import say

_WITHIN_S: Final = 60.0
ROOT: Final = Path(__file__).parents[2] / "schemas" / "proto"


def generate(into: Path = ROOT) -> list[Path]:
    """Compile every file; the paths of what was made. Raises ``CalledProcessError``."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}"]
    out = [f"--python_out={into}", f"--pyi_out={into}"]
    subprocess.run([*compiler, *out, *sources], check=True, timeout=_WITHIN_S)
    stems = [into / source.removesuffix(".proto") for source in sources]
    return [stem.with_name(f"{stem.name}_pb2.{kind}") for stem in stems for kind in ("py", "pyi")]


if __name__ == "__main__":
    for made in generate():
        say(str(made), sys.stdout)
