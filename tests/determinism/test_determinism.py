"""The recipe is in force whatever the environment held, and TensorFlow can't slip in before it."""

import os
import subprocess
import sys

from rlhf_audit import determinism


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_conflicting_presets_are_replaced() -> None:
    code = (
        "import os, sys; from rlhf_audit import determinism; determinism.prepare()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "names = 'XLA_FLAGS', 'ONEDNN_MAX_CPU_ISA', 'OMP_NUM_THREADS', 'TF_XLA_FLAGS'\n"
        "print([os.environ.get(name) for name in names])"
    )
    done = run(
        code,
        XLA_FLAGS="--xla_cpu_max_isa=AVX512 --xla_cpu_enable_fast_math=true",
        ONEDNN_MAX_CPU_ISA="SSE41",
        OMP_NUM_THREADS="7",
        TF_XLA_FLAGS="--tf_xla_auto_jit=2",
    )
    assert done.stdout.strip() == "['--xla_cpu_max_isa=AVX2', 'AVX2', '1', None]", done.stderr


def test_tensorflow_imported_before_is_refused() -> None:
    code = (
        "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        "from rlhf_audit import determinism, errors\n"
        "try: determinism.prepare()\n"
        "except errors.RefusedError as error: print(error)"
    )
    done = run(code)
    assert "TensorFlow was imported before" in done.stdout, done.stderr
    assert "to fix:" in done.stdout


def test_tensorflow_that_has_already_run_is_refused() -> None:
    code = (
        "from rlhf_audit import determinism, errors\n"
        "determinism.prepare()\n"
        "import tensorflow as tf\n"
        "tf.config.threading.set_intra_op_parallelism_threads(2); tf.constant(1.0) + 1\n"
        "try: determinism.tensorflow()\n"
        "except errors.RefusedError as error: print(error)"
    )
    done = run(code)
    assert "does not keep to the recipe" in done.stdout, done.stderr


def test_the_module_is_imported_once_and_quietly() -> None:
    code = (
        "from rlhf_audit.determinism import tensorflow\n"
        "tf = tensorflow(); assert tensorflow() is tf\n"
        "from tensorflow.python.framework import config\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(),\n"
        "      tf.config.threading.get_inter_op_parallelism_threads(), config.is_op_determinism_enabled())"
    )
    done = run(code)
    assert done.stdout.strip() == "1 1 True"
    assert done.stderr == ""


def test_the_recipe_names_flags_and_versions() -> None:
    recipe = determinism.recipe()
    assert recipe["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert {"tensorflow", "keras", "numpy"} <= set(recipe)
    assert all(isinstance(value, str) for value in recipe.values())
