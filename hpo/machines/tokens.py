"""The token that guards a Ray cluster: where this machine keeps it, and the environment that shows it.

Ray itself is not imported here: it reads its token and whether to show it from the environment, when it is imported.
"""

import contextlib
import os
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process of Ray's: it shows this machine's token, where there is one."""
    # A cluster without a token takes those who show one.
    mode = {"RAY_AUTH_MODE": "token"} if read_token() else {}
    return {**mode, "RAY_worker_niceness": "0", **os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **more}


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
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8").strip() == token:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        path.chmod(0o600)
        file.write(token)
    return True
