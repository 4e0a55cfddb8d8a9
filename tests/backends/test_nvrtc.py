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
    """Compile kernels, and return the code, the names of the kernels in it, and the log."""
    names = [getattr(one, "name", one).encode() for one in chosen]
    names += [instances.FIND_BEYOND.encode(), instances.FILL_UNIFORM.encode()]
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
# Beside the oldest chips of both ways to update rows, which have more instances.
OTHERS = [chip for chip in KNOWN if chip == 80 or chip > instances.VECTOR_ATOMICS]


def check_compiles(chip, chosen, *options):
    code, names, log = compile_for(chip, chosen, "CUBIN", *options)
    # A template that is not instantiated compiles to nothing, and successfully.
    assert len(set(names)) == len(chosen) + 2
    for name in names:
        assert name in code
    return names, log


# Whether the assembler takes the code does not depend on how well it does.
QUICKLY = "--ptxas-options=-O0"


def test_all_kinds_of_instances_compile_for_the_oldest_chip():
    # Sizes make no difference to a chip that they do not make to another one.
    kinds = {
        (i.source, i.width, i.full, i.update, i.num_negative < 0, i.shared, i.options): i
        for i in instances.INSTANTIATIONS
    }
    scalar = {"add_vector": "add"}
    chosen = [i._replace(update=scalar.get(i.update, i.update)) for i in kinds.values()]
    check_compiles(KNOWN[0], list(dict.fromkeys(chosen)), QUICKLY)


def test_every_instance_compiles_and_no_default_spills_registers():
    chosen = list(dict.fromkeys([*instances.DEFAULTS, *instances.INSTANTIATIONS]))
    names, log = check_compiles(instances.VECTOR_ATOMICS, chosen, "--ptxas-options=-v")
    spilled = dict(re.findall(r"Function properties for (\w+)\n.* (\d+ bytes spill stores.*)", log))
    assert len(spilled) == len(names), log
    for instance, name in zip(instances.DEFAULTS, names, strict=False):
        assert spilled[name.decode()] == "0 bytes spill stores, 0 bytes spill loads", instance


@pytest.mark.parametrize("chip", KNOWN)
def test_what_sees_all_items_compiles_for_every_chip(chip):
    names, log = check_compiles(chip, instances.DENSE, "--ptxas-options=-v")
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    assert len(spilled) == len(names)
    assert set(spilled) == {"0"}


@pytest.mark.parametrize("chip", [KNOWN[0], instances.VECTOR_ATOMICS, KNOWN[-1]])
def test_what_lists_pairs_compiles_for_old_and_new_chips(chip):
    names, log = check_compiles(chip, instances.LISTING, "--ptxas-options=-v")
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    assert len(spilled) == len(names)
    assert set(spilled) == {"0"}


def test_the_chips_that_people_have_are_among_them():
    assert KNOWN[0] == 75
    assert {75, 80, 90, 100} < set(KNOWN)


@pytest.mark.parametrize("chip", OTHERS)
def test_the_defaults_compile_for_other_chips(chip):
    check_compiles(chip, instances.DEFAULTS, QUICKLY)


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
