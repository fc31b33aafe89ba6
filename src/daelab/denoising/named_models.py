"""The networks that users name: model files, shipped models, runs, and code of their own."""

from __future__ import annotations

from pathlib import Path

from daelab.denoising.classical import CLASSICAL_PREFIX
from daelab.errors import make_unknown_name_error
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.external import ExternalNetwork, load_factory, split_model_name, wrap_module
from daelab.models.hub import HUB_MODEL_FILE, download_hub_model, is_hub_name
from daelab.models.layers import Network
from daelab.models.model_file import ModelMetadata, load_network
from daelab.models.registry import find_model_file, list_shipped_models
from daelab.runs.folder import get_runs_root


def find_model(name: str | Path) -> Path:
    """Find the file of a model.

    Args:
        name: A path, the name of a shipped model, the name or the folder of a run, a folder of `daelab publish`, or a
            model of the hub (`hf://OWNER/NAME`), which this downloads. Names that come from a file are looked up by
            `find_model_file` instead, so that no file can start a download.

    Raises:
        FileNotFoundError: There is no such model or run.
    """
    if is_hub_name(name):
        return download_hub_model(str(name))
    try:
        # A file or a shipped model comes before a run, so that a run cannot hide a shipped model of the same name.
        return find_model_file(name)
    except FileNotFoundError:
        pass
    runs = {path.parent.name: path for path in get_runs_root().glob("*/best.safetensors")}
    if str(name) in runs:
        return runs[str(name)]
    for inside in (Path(name) / "best.safetensors", Path(name) / HUB_MODEL_FILE):
        if inside.is_file():
            return inside
    valid = [*list_shipped_models(), *runs]
    if not valid:
        raise FileNotFoundError(f"there is no model {name}: the file does not exist, and no run has a model yet")
    raise FileNotFoundError(str(make_unknown_name_error("model or run", str(name), valid)))


def load_named_network(name: str | Path) -> tuple[Network, ModelMetadata]:
    """Load the network that a user names, and its metadata.

    Args:
        name: A model file, the name of a shipped model or of a run; or code of the user, which this runs:
            `package.module:factory`, or `package.module:factory@MODEL` with weights from a model file or a run.

    Raises:
        FileNotFoundError: There is no such model or run.
        ValueError: The file is not a model, or the code failed.
    """
    return load_tiled_network(name)[:2]


def load_storable_network(name: str | Path) -> tuple[Network, ModelMetadata]:
    """Load the network that a user names, and its metadata, if they can be written as a model file.

    Args:
        name: A name that `load_named_network` takes.

    Raises:
        FileNotFoundError: There is no such model or run.
        ValueError: It has no weights, or they are those of another project, or they do not load.
    """
    factory, weights = split_model_name(name)
    if (factory and not weights) or str(name).startswith(CLASSICAL_PREFIX) or str(name).lower().endswith(".onnx"):
        raise ValueError(f"{name} has no model file; name a shipped model, a run or a model file")
    network, metadata = load_named_network(name)
    if isinstance(metadata.spec, ModuleArchitecture) and factory is None:
        raise ValueError(f"{name} holds weights of another project, so daelab cannot write them as a model file")
    return network, metadata


def load_tiled_network(name: str | Path) -> tuple[Network, ModelMetadata, str]:
    """Load the network that a user names, its metadata, and how its tiling was found if that was measured.

    Args:
        name: A name that `load_named_network` takes.
    """
    factory, model = split_model_name(name)
    if factory is None:
        return *load_network(find_model(name)), ""
    module = load_factory(factory)
    if model:
        network, metadata = load_network(path := find_model(model), module)
        assert isinstance(network, ExternalNetwork)
        trained = network.spec.to_dict()["factory"]
        # The class of a script or a notebook may have moved into a module since.
        if trained not in (factory, f"__main__:{factory.partition(':')[2]}"):
            raise ValueError(f"{path} holds the weights of {trained[:80]}, not of {factory}")
        return network, metadata, ""
    network, tiling = wrap_module(module, factory)
    return network.eval(), ModelMetadata(network.spec, factory), tiling.note
