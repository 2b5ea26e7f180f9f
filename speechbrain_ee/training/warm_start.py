# SPDX-License-Identifier: Apache-2.0
"""Start training from the weights of another run, e.g. to add exits to a trained model."""

from pathlib import Path

import torch
from speechbrain.utils.logger import get_logger
from torch import nn

from speechbrain_ee.lobes.state_dicts import load_strict
from speechbrain_ee.model.folder import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelError, load_config, load_model

logger = get_logger(__name__)


def warm_start(modules: dict[str, nn.Module], folder: str | Path, *, tokenizer_file: str | Path) -> list[int]:
    """Load features and encoder of a model folder, and the heads of the exit layers that both models have.

    Arguments
    ---------
    modules : dict[str, nn.Module]
        The modules ``features``, ``encoder`` and ``heads`` to load into.
    folder : str | Path
        Run folder or model folder.
    tokenizer_file : str | Path
        Tokenizer of this training; heads for another tokenizer are not loaded.

    Returns
    -------
    list[int]
        Exit layers whose heads were loaded; the other heads keep their initial weights.

    Raises
    ------
    ModelError
        If the folder has no complete model, or its features or encoder have other settings.
    CheckpointError
        If the weights have other shapes.
    """
    folder = Path(folder)
    given = load_model(load_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE)
    for name in ("features", "encoder"):
        _check_settings(folder, name, _function_of(given[name]), _function_of(modules[name]))
        load_strict(modules[name], given[name].state_dict(), what=f"the {name} of {folder}")
    taken = []
    if _are_alike(modules["heads"], given["heads"]) and _same_file(folder / TOKENIZER_FILE, Path(tokenizer_file)):
        theirs = {layer: index for index, layer in enumerate(given["encoder"].exit_layers)}
        for index, layer in enumerate(modules["encoder"].exit_layers):
            if layer in theirs:
                pairs = zip(modules["heads"].modules_of(index), given["heads"].modules_of(theirs[layer]), strict=True)
                for own, other in pairs:
                    own.load_state_dict(other.state_dict())
                taken.append(layer)
    new = [layer for layer in modules["encoder"].exit_layers if layer not in taken]
    logger.info("loaded %s: features, encoder, heads of the layers %s; new heads at the layers %s", folder, taken, new)
    return taken


def _function_of(module: nn.Module) -> dict:
    """Return the settings that affect what given weights compute; excludes depth and dropout."""
    settings = {"class": type(module).__name__} | module.config
    settings |= settings.pop("backbone", {})
    free = {"exit_layers", "num_layers", getattr(module, "depth_setting", None)}
    return {name: value for name, value in settings.items() if name not in free and "dropout" not in name}


def _check_settings(folder: Path, part: str, theirs: dict, ours: dict) -> None:
    differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if differing:
        was = ", ".join(f"{name} was {theirs.get(name)!r} and is {ours.get(name)!r}" for name in differing[:3])
        raise ModelError(f"the {part} of {folder} have other settings ({was}): use the same settings, or no init_from")


def _are_alike(ours: nn.Module, theirs: nn.Module) -> bool:
    """Whether two sets of heads have the same settings, except for their number and layers."""
    places = {"num_exits", "exit_layers", "decoders_at", "decoders_per_batch"}
    own, other = ({key: value for key, value in one.config.items() if key not in places} for one in (ours, theirs))
    return type(ours) is type(theirs) and own == other


def _same_file(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def load_checkpoint_encoder(hparams: dict) -> None:
    """Load features and encoder of the newest checkpoint; the Brain does not load them if states are cached.

    Raises
    ------
    CheckpointError
        If the weights do not fit.
    """
    checkpoint = hparams["checkpointer"].find_checkpoint()
    for name in ("features", "encoder"):
        file = checkpoint.paramfiles[name]
        state = torch.load(file, map_location="cpu", weights_only=True)
        load_strict(hparams[name], state, what=f"the checkpoint {file}")


def load_initial(hparams: dict) -> None:
    """Load the weights of ``init_from``; ``init_share`` needs the weights of all heads.

    Raises
    ------
    ValueError
        If ``init_share`` is above 0 and a head cannot be loaded.
    """
    parts = {name: hparams[name] for name in ("features", "encoder", "heads")}
    taken = warm_start(parts, hparams["init_from"], tokenizer_file=hparams["tokenizer_file"])
    new = [layer for layer in hparams["exit_layers"] if layer not in taken]
    if new and hparams["init_share"] > 0:
        raise ValueError(
            f"init_share {hparams['init_share']} needs all heads of {hparams['init_from']}, which has no "
            f"matching heads at the layers {new}: give 0, or a run with the same heads and tokenizer"
        )
