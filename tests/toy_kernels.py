"""The kernels that torch's compiler generates for a GPU, on a machine without one: its code generator needs only the
facts of a device.
"""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

DEVICE = torch.device("cuda", 0)
H100 = SimpleNamespace(
    name="NVIDIA H100",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    shared_memory_per_block_optin=232448,
    warp_size=32,
    total_memory=2**37,
)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's compiler asks of a device, answered."""
    import torch.utils._triton
    from torch._dynamo.device_interface import CudaInterface

    facts: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device=None: H100,
    }
    for name, answer in facts.items():
        monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(CudaInterface, name, staticmethod(answer))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(CudaInterface, "get_compute_capability", staticmethod(lambda device=None: 90))
    for name in ("current_device", "get_device_properties"):
        monkeypatch.setattr(CudaInterface.Worker, name, staticmethod(facts[name]))
    monkeypatch.setattr(torch.utils._triton, "triton_hash_with_backend", lambda: "none")


def forget_answers() -> None:
    """torch keeps what it was answered before, for the whole process."""
    import torch.utils._triton

    for function in vars(torch.utils._triton).values():
        getattr(function, "cache_clear", lambda: None)()


def gpu_kernels(
    function: Callable[..., list[Tensor]], inputs: list[Tensor], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[str]:
    """The kernels started by a compiled function on a GPU, in order: of Triton, and of libraries."""
    from torch._inductor import config
    from torch._inductor.compile_fx import _recursive_post_grad_passes
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    function(*inputs)  # fills tables
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        traced = make_fx(function, decomposition_table=select_decomp_table())(*inputs)
    # Traced on the CPU; now the graph is moved. Tables become inputs.
    values = list(inputs)
    for node in list(traced.graph.nodes):
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": DEVICE}
        if node.op == "get_attr":
            values.append(getattr(traced, node.target))
            last = [other for other in traced.graph.nodes if other.op == "placeholder"][-1]
            with traced.graph.inserting_after(last):
                node.replace_all_uses_with(traced.graph.placeholder(f"table_{len(values)}"))
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    with monkeypatch.context() as patch, config.patch(options), FakeTensorMode() as fake:
        forget_answers()
        pretend_gpu(patch)
        moved = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=DEVICE) for x in values]
        FakeTensorProp(traced, fake).propagate_dont_convert_inputs(*moved)
        _recursive_post_grad_passes(traced, is_inference=True)
        graph = GraphLowering(traced, example_inputs=moved, is_inference=True)
        with V.set_fake_mode(fake), DebugContext(), V.set_graph_handler(graph), V.set_extern_kernel_nodes([]):
            graph.run(*moved)
            code = str(getattr(generated := graph.codegen()[0], "value", generated))
    forget_answers()
    return re.findall(r"triton_\w+(?=\.run\()|extern_kernels\.\w+(?=\()", code[code.index("def call") :])
