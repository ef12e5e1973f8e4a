"""One digest in every process: on one core or two, and whatever the environment had preset."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = {
    "likelihood": "c88b92ae0f514a9177da3621b4cf5844e64598641369a1b1d6aaecade592c5f2",
    "trusting": "bf59ea67019a914d5ab6e6618802a112b19ce0d1394823bef555f05eb03f2888",
    "article": "dca2d0c81e3aaa11cf8d47dd5c2137fefedeee107f3e46446042bb115b83edf4",
    "live": "9e5a0ec67db3690a034810c86c6a22ba6021f852384edd607795789c9e50a25e",
}
PROGRAM = Path(__file__).with_name("training_data.py")
CHECKOUT = Path(__file__).parents[2]

PRESETS: list[object] = [
    pytest.param("", {}, id="as-it-comes"),
    pytest.param(
        "0",
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "OMP_NUM_THREADS": "8"},
        id="one-core-older-instructions-preset",
    ),
    *(
        pytest.param(cores, {name: value}, id=f"{cores or 'all'}-{name}-{value}", marks=pytest.mark.sweep)
        for cores in ("0", "0,1")
        for name, value in [
            ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
            ("DNNL_MAX_CPU_ISA", "SSE41"),
            ("XLA_FLAGS", "--xla_cpu_max_isa=AVX512 --xla_cpu_enable_fast_math=true"),
            ("OMP_NUM_THREADS", "4"),
            ("TF_NUM_INTRAOP_THREADS", "4"),
            ("TF_ENABLE_ONEDNN_OPTS", "1"),
            ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2"),
            ("OPENBLAS_CORETYPE", "Haswell"),
            ("NPY_DISABLE_CPU_FEATURES", "AVX512F AVX512_SKX AVX2 FMA3"),
        ]
    ),
]


@pytest.mark.parametrize(("cores", "preset"), PRESETS)
def test_a_fresh_process_trains_to_the_golden_digests(cores: str, preset: dict[str, str]) -> None:
    available = sorted(os.sched_getaffinity(0))
    wanted = ",".join(str(available[int(core) % len(available)]) for core in cores.split(",") if core)
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TEST_CORES": wanted, **preset},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == GOLDEN
