"""The kernels, compiled for every chip by NVIDIA's compiler, which needs neither GPU nor driver."""

import re

import pytest

from itembed_gpu.backends.cuda import instances
from itembed_gpu.objective.pairs import NEIGHBOUR

nvrtc = pytest.importorskip("cuda.bindings.nvrtc")


def call(function, *arguments):
    """Call the compiler's library, and return what it returns beside the error."""
    error, *values = function(*arguments)
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, nvrtc.nvrtcGetErrorString(error)
    return values[0] if values else None


def read(program, what):
    """Read the log, the machine code or the PTX of a program."""
    text = b" " * call(getattr(nvrtc, f"nvrtcGet{what}Size"), program)
    call(getattr(nvrtc, f"nvrtcGet{what}"), program, text)
    return text


def compile_for(chip, chosen, form="CUBIN", *options):
    """Compile instances, and return the code, the names of the kernels in it, and the log."""
    names = [instance.name.encode() for instance in chosen]
    names.append(instances.FIND_NOT_FINITE.encode())
    target = f"--gpu-architecture={'sm' if form == 'CUBIN' else 'compute'}_{chip}"
    arguments = [option.encode() for option in (target, "-std=c++17", "-ftz=true", *options)]
    program = call(
        nvrtc.nvrtcCreateProgram, instances.source().encode(), b"itembed_gpu.cu", 0, [], []
    )
    for name in names:
        call(nvrtc.nvrtcAddNameExpression, program, name)
    (error,) = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)
    log = read(program, "ProgramLog").decode()
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log
    lowered = [call(nvrtc.nvrtcGetLoweredName, program, name) for name in names]
    return read(program, form), lowered, log


# The compute capabilities that the compiler knows, from the oldest supported on.
KNOWN = [chip for chip in call(nvrtc.nvrtcGetSupportedArchs) if chip >= instances.MIN_CHIP]
# Of each way to update rows, the oldest chip: a minute each.
EVERYTHING = [chip for chip in KNOWN if chip in (75, instances.VECTOR_ATOMICS)]
OTHERS = [chip for chip in KNOWN if chip == 80 or chip > instances.VECTOR_ATOMICS]


def check_compiles(chip, chosen):
    code, names, _ = compile_for(chip, chosen)
    # A template that is not instantiated compiles to nothing, and successfully.
    assert len(set(names)) == len(chosen) + 1
    for name in names:
        assert name in code


@pytest.mark.parametrize("chip", EVERYTHING)
def test_every_instance_compiles(chip):
    chosen = instances.INSTANTIATIONS
    if chip < instances.VECTOR_ATOMICS:
        scalar = {"add_vector": "add"}
        chosen = [i._replace(update=scalar.get(i.update, i.update)) for i in chosen]
    check_compiles(chip, list(dict.fromkeys(chosen)))


def test_the_chips_that_people_have_are_among_them():
    assert EVERYTHING == [75, 90]
    assert {80, 100} < set(OTHERS)


@pytest.mark.parametrize("chip", OTHERS)
def test_the_defaults_compile_for_other_chips(chip):
    check_compiles(chip, instances.DEFAULTS)


def test_no_default_spills_registers():
    # One at a time: the log does not say whose registers it counts.
    for instance in instances.DEFAULTS:
        _, _, log = compile_for(90, [instance], "CUBIN", "--ptxas-options=-v")
        spills = [int(count) for count in re.findall(r"(\d+) bytes spill", log)]
        assert len(spills) >= 4, log  # stores and loads of two kernels
        assert not any(spills), f"{instance}: {log}"


@pytest.mark.parametrize(
    ("chip", "option", "instruction", "others"),
    [
        (90, {}, "atom.global.add.v4.f32", ("atom.global.add.f32",)),
        (80, {}, "atom.global.add.f32", ("add.v4.f32",)),
        (90, {"lossy": True}, "st.global.v4.f32", ("add.v4.f32", "atom.global.add.f32")),
    ],
)
def test_rows_are_updated_as_the_chip_can(chip, option, instruction, others):
    instance = instances.choose_instance(NEIGHBOUR, 128, 5, chip=chip, **option)
    code, _, _ = compile_for(chip, [instance], "PTX")
    text = code.decode()
    assert instruction in text
    for other in others:
        assert other not in text
    # Rows are read past the first cache, four floats at a time.
    assert "ld.global.cg.v4.f32" in text
