"""Int8 codes and products against plain arithmetic in fp64, and the integer kernel against both."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compression.quantization.int8_arithmetic import (
    PackedWeight,
    kernel_bits,
    kernel_name,
    linear,
    quantize_activation,
    quantize_rows,
)

needs_kernel = pytest.mark.skipif(kernel_bits() is None, reason="this machine has no integer kernel")
matrices = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1024, 1024, width=32)
)


def example(rows=5, features=24, outputs=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(rows, features, generator=generator) * torch.rand(rows, 1, generator=generator) * 10
    codes, scales = quantize_rows(torch.randn(outputs, features, generator=generator))
    return activation, codes, scales, torch.randn(outputs, generator=generator)


def by_hand(activation, codes, scales, bias):
    """Both operands rounded as the scheme says, multiplied in fp64."""
    x = activation.double().numpy()
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    step = (high - low) / 255
    rounded = np.round((x - low) / np.where(step > 0, step, 1)) * step + low
    return rounded @ (codes.double() * scales.double()[:, None]).numpy().T + bias.double().numpy()


@settings(deadline=None)
@given(matrices)
def test_each_weight_is_within_half_a_step_of_its_row(matrix):
    weight = torch.from_numpy(matrix)
    codes, scales = quantize_rows(weight)
    assert codes.dtype == torch.int8
    assert codes.abs().max() <= 127
    error = (codes * scales[:, None] - weight).abs()
    assert (error <= 0.5 * scales[:, None] * (1 + 1e-5) + 1e-30).all()


def test_the_largest_weight_of_a_row_is_kept_and_rows_do_not_share_scales():
    codes, scales = quantize_rows(torch.tensor([[0.001, -0.002], [100.0, 50.0]]))
    assert codes.tolist() == [[64, -127], [127, 64]]
    assert scales.tolist() == pytest.approx([0.002 / 127, 100 / 127])


def test_zero_and_subnormal_rows_survive():
    codes, scales = quantize_rows(torch.tensor([[0.0, 0.0], [1e-42, 0.0]]))
    assert torch.isfinite(scales).all()
    assert (codes * scales[:, None]).abs().max() <= 1e-41


@settings(deadline=None)
@given(matrices)
def test_each_activation_is_within_half_a_step_of_its_token(matrix):
    activation = torch.from_numpy(matrix)
    codes, scale, minimum = quantize_activation(activation)
    assert codes.min() >= 0
    assert codes.max() <= 255
    # 1e-5 of the largest value: fp32 rounding of the range itself.
    assert ((scale * codes + minimum - activation).abs() <= 0.5 * scale + 1e-5 * activation.abs().max() + 1e-8).all()


def test_plain_path_is_the_formula():
    case = example()
    assert linear(*case).numpy() == pytest.approx(by_hand(*case), rel=1e-4, abs=1e-4)


def test_one_large_token_does_not_coarsen_the_others():
    activation, codes, scales, bias = example()
    alone = linear(activation[:1], codes, scales, bias)
    crowd = torch.cat([activation[:1], torch.full((1, activation.shape[1]), 1e6), activation[1:]])
    torch.testing.assert_close(linear(crowd, codes, scales, bias)[:1], alone)


@pytest.mark.skipif(kernel_bits() != 8, reason="8-bit codes saturate on this machine")
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 40), st.integers(0, 99))
def test_kernel_computes_what_the_plain_path_defines(rows, features, outputs, seed):
    activation, codes, scales, bias = example(rows, features, outputs, seed)
    found = PackedWeight.pack(codes, scales, bias, bits=8).linear(activation)
    torch.testing.assert_close(found, linear(activation, codes, scales, bias), rtol=1e-5, atol=1e-4)


@needs_kernel
def test_kernel_takes_any_leading_shape_and_constant_tokens():
    _, codes, scales, bias = example()
    activation = torch.stack([torch.zeros(2, 24), torch.full((2, 24), -3.5)])
    found = PackedWeight.pack(codes, scales, bias, bits=7).linear(activation)
    assert found.shape == (2, 2, 7)
    torch.testing.assert_close(found[0], bias.expand(2, 7))
    torch.testing.assert_close(found, linear(activation, codes, scales, bias))


@needs_kernel
def test_seven_bit_codes_are_within_their_own_half_step():
    activation, codes, scales, bias = example(features=64)
    exact = activation.double() @ (codes.double() * scales.double()[:, None]).T + bias.double()
    found = PackedWeight.pack(codes, scales, bias, bits=7).linear(activation)
    step = (activation.amax(1) - activation.amin(1)) / 255 * 2
    bound = 0.5 * step[:, None] * (codes.abs().sum(1) * scales)[None, :]
    assert ((found - exact).abs() <= bound + 1e-4).all()
    # On average the errors cancel: halving codes must not shift the result to one side.
    assert (found - exact).mean().abs() < 0.1 * (found - exact).abs().mean() + 0.05


SATURATION = """
import torch
from compression.quantization.int8_arithmetic import PackedWeight, linear, quantize_rows
torch.manual_seed(0)
activation = torch.rand(4, 384)
codes, scales = quantize_rows(torch.rand(16, 384))
exact = linear(activation, codes, scales, None)
for bits in (8, 7):
    found = PackedWeight.pack(codes, scales, None, bits).linear(activation)
    print(((found - exact).norm() / exact.norm()).item())
"""


@needs_kernel
def test_seven_bits_cannot_saturate_where_eight_do():
    # oneDNN held down to AVX2, as on processors without VNNI: bytes are multiplied in pairs into int16.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", SATURATION], env=environment, capture_output=True, text=True, check=True
    )
    eight, seven = map(float, process.stdout.split())
    assert eight > 0.01
    assert seven < 0.002


@pytest.mark.parametrize(
    ("features", "bits"),
    [
        ({"avx2": True, "avx512_vnni": True}, 8),
        ({"avx2": True, "avx_vnni": True}, 8),
        ({"avx2": True}, 7),
        ({"neon": True}, None),
    ],
)
def test_width_of_codes_follows_the_processor(monkeypatch, features, bits):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    kernel_bits.cache_clear()
    try:
        assert kernel_bits() == bits
        assert kernel_name("cpu") == ("torch-fp32" if bits is None else f"onednn-u{bits}s8")
    finally:
        monkeypatch.undo()
        kernel_bits.cache_clear()
