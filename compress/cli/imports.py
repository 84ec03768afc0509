"""`edgeai-compress import`: a network of another tool as a Keras file that recipes start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeai.console import print_json
from edgeai.errors import UsageError


def import_file(
    source: Path,
    *,
    out: Path | None = None,
    outputs: Sequence[str] = (),
    environment: Path | None = None,
    force: bool = False,
    json_output: bool = False,
) -> int:
    """Write the network, whole or not at all, and say what to do with it. Raises what import_network raises, and UsageError
    where the file is there already.
    """
    out = out or Path(source.resolve().name).with_suffix(".keras")
    if out.suffix != ".keras":
        raise UsageError(f"{out}: a Keras file ends in .keras")
    if out.exists() and not force:
        raise UsageError(f"{out} is there already", next_step="name another file with --out, or give --force")
    from compress.quiet import start_tensorflow

    start_tensorflow()
    from compress.groups.macs import model_macs
    from compress.imports.network import import_network
    from compress.networks.keras_file import save_network
    from compress.networks.signature import input_shapes

    made = import_network(source, outputs=outputs, environment=environment)
    network = made.network
    out.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, out)
    given = {name: list(shape[1:]) for name, shape in input_shapes(network).items()}
    said = {name: list(tensor.shape[1:]) for name, tensor in network.output.items()}
    parameters, macs = int(network.count_params()), model_macs(network)
    if json_output:
        print_json(
            {
                "network": str(out),
                "source": made.kind,
                "inputs": given,
                "outputs": said,
                "parameters": parameters,
                "macs": macs,
                "furthest": made.furthest,
            }
        )
        return 0
    print(f"{out}: {parameters:,} parameters, {macs / 1e6:.1f} M MACs")
    for what, edges in (("takes", given), ("gives", said)):
        print(
            f"{what} " + ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in edges.items())
        )
    print(f"says what {source.name} says, within {made.furthest:.1g} of an output's range")
    print(f'in a recipe: network = {{ kind = "keras-file", init = "{out}" }}')
    return 0
