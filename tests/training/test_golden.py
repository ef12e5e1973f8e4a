"""One digest in every process: on one core or two, and whatever the environment had preset."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = {
    "likelihood": "738dbbc136a9f8f671f6111d15123a82db8c14c5a574816d25d82da06444044f",
    "trusting": "c5a031b66686f10dc65d004616dd0692b66ee6a4f54b36d9782063613ab0a602",
    "article": "2bd5ff4bc8511fb480bd8efd87395a679e9331ffc2a65b14519c4538eb56882d",
    "live": "d8328959e940718db89bb366e034676c0eda3993fb04f21dea73bcfca434595f",
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
