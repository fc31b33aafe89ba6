"""Models of the Hugging Face Hub, which are downloaded only if a user names them as `hf://OWNER/NAME`."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from daelab._util.text import shorten_error, summarize_error

HUB_MODEL_FILE = "model.safetensors"
"""The name of the model file in a repository of the hub, and in a folder of `daelab publish`."""
_PREFIX = "hf://"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w-][\w.-]*(?:/[\w-][\w.-]*)*))?")


def is_hub_name(name: object) -> bool:
    """Return whether a name means a model of the hub.

    Args:
        name: The name.
    """
    return str(name).startswith(_PREFIX)


def download_hub_model(name: str) -> Path:
    """Download the model file of a repository, or take it from the hub's cache if it has not changed.

    Without a connection, the file in the cache is taken. The hub and the cache are those of huggingface_hub
    ($HF_ENDPOINT, $HF_HOME). The file is no more than data: it is checked as every model file when it is read.

    Args:
        name: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.

    Raises:
        ValueError: The name has another form, or huggingface_hub is not installed.
        FileNotFoundError: There is no such repository or revision, or it holds no model file.
        OSError: The hub cannot be reached.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name[:100]}: name a model of the hub as hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    if find_spec("huggingface_hub") is None:
        raise ValueError(f"{name} needs huggingface_hub: pip install 'daelab[hub]'")
    # Both are read when the package is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from huggingface_hub import errors, hf_hub_download

    repository, revision = match.groups()
    try:
        # The variable is read here too, so that a program can set it after its imports.
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(hf_hub_download(repository, HUB_MODEL_FILE, revision=revision, endpoint=endpoint))
    except errors.RepositoryNotFoundError:
        reason = f"the hub has no model {repository}, or it is private: `hf auth login` logs in"
    except errors.RevisionNotFoundError:
        reason = f"{repository} has no revision {revision}"
    except errors.RemoteEntryNotFoundError:
        reason = f"{repository} holds no {HUB_MODEL_FILE}, so `daelab publish` did not make it"
    except errors.HFValidationError as error:
        raise ValueError(f"{name}: {shorten_error(error)}") from None
    except Exception as error:  # its network library raises errors of many classes
        raise OSError(f"{name}: the hub cannot be reached, and the cache does not hold it: {_explain(error)}") from None
    raise FileNotFoundError(f"{name}: {reason}")


def _explain(error: BaseException) -> str:
    """Return the reason of the first failure, which the errors of the hub wrap."""
    while error.__cause__ is not None:
        error = error.__cause__
    return summarize_error(error)
