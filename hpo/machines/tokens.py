"""The token that guards a Ray cluster: where this machine keeps it, and the environment that shows it.

Ray itself is not imported here: it reads its token and whether to show it from the environment, when it is imported.
"""

import contextlib
import os
import secrets
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process of Ray's: it shows this machine's token, where there is one."""
    # A cluster without a token takes those who show one.
    mode = {"RAY_AUTH_MODE": "token"} if read_token() else {}
    always = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**mode, "RAY_worker_niceness": "0", **os.environ, **always, **more}


def token_path() -> Path:
    """Return the file that Ray reads the token from: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def read_token() -> str | None:
    """Return the token that Ray shows here: ``$RAY_AUTH_TOKEN``, else the file's; None: there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    with contextlib.suppress(FileNotFoundError):
        return token_path().read_text(encoding="utf-8").strip() or None
    return None


def keep_token(token: str) -> bool:
    """Write the token to its file, for its owner's eyes only; return whether the file lacked it."""
    path = token_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # What was readable by others so far must not be while it gets the token either.
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o600)
        if path.read_text(encoding="utf-8").strip() == token:
            return False
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(token)
    return True


def guard_token() -> None:
    """Make a token where there is none, and let nobody but its owner read it: Ray would let everybody."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_path()
    keep_token(read_token() or secrets.token_hex(32))
    if path.parent.name == ".ray":
        path.parent.chmod(0o700)
