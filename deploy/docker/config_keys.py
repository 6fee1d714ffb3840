"""Makes the keys that sign the configuration of an installation in containers, once: `python -m deploy.docker.config_keys FOLDER`.

`FOLDER/admin/key` and `FOLDER/accounting/key` are the private ones, each in a folder that its process alone mounts;
`FOLDER/public/keys` is for everybody. What is there stays: new keys would make every entry that was signed with the old ones nobody's.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Final

from schemas.config_signing import KEY_BYTES, SignerName, read_signer

_SIGNERS: Final[tuple[SignerName, ...]] = ("admin", "accounting")
_MODE: Final = 0o440


def make_keys(folder: Path) -> bool:
    """Whether they were made. Raises ``OSError`` where they cannot be written.

    The public ones are written last, and only where every private one is: an interrupted run is taken up again.
    """
    public = folder / "public" / "keys"
    if public.exists():
        return False
    told = []
    for name in _SIGNERS:
        place = folder / name / "key"
        if not place.exists():
            _write(place, secrets.token_hex(KEY_BYTES))
        told.append(f"{name}={read_signer(name, place.read_text(encoding='utf-8')).public}")
    _write(public, ",".join(told))
    return True


def _write(place: Path, text: str) -> None:
    """As a whole or not at all, and for its owner and group only."""
    staged = place.with_name(f"{place.name}.new")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    staged.write_text(text, encoding="utf-8")
    staged.chmod(_MODE)
    staged.rename(place)


if __name__ == "__main__":
    make_keys(Path(sys.argv[1]))
