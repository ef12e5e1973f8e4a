"""One flat Parquet table an environment."""

from rlhf_audit.exchange import flat
from rlhf_audit.exchange.base import Export, Files


def write(export: Export) -> Files:
    """Yield ``<environment>.parquet``, in the types of the environment's own spaces."""
    for one in export.environments:
        yield f"{one.name}.parquet", flat.parquet(one)
