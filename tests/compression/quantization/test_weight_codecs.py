"""Weight formats against plain arithmetic in numpy, and the packing of four-bit codes against its inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compression.quantization.weight_codecs import Float8Codec, GroupCodec, pack_int4, unpack_int4, weight_codec

matrices = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1024, 1024, width=32)
)
FLOATS = {"fp8-e4m3": (4, 3, 448.0), "fp8-e5m2": (5, 2, 57344.0)}


def decoded(codec, weight):
    return codec.decode(*codec.encode(weight), weight.shape[1])


def grouped_by_hand(weight, bits, size):
    limit = 2 ** (bits - 1) - 1
    result = np.zeros_like(weight, dtype=np.float64)
    for start in range(0, weight.shape[1], size):
        part = weight[:, start : start + size].astype(np.float32)
        step = np.abs(part).max(axis=1, keepdims=True) / np.float32(limit)
        safe = np.where(step > 0, step, np.float32(1))
        result[:, start : start + size] = np.clip(np.round(part / safe), -limit, limit) * step.astype(np.float64)
    return result


def numbers_of(exponent_bits, mantissa_bits, largest):
    """Every number of an 8-bit float format that is not negative, by its definition, in order of its codes."""
    bias = 2 ** (exponent_bits - 1) - 1
    numbers = [
        (mantissa / 2**mantissa_bits) * 2.0 ** (1 - bias)
        if exponent == 0
        else (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias)
        for exponent in range(2**exponent_bits)
        for mantissa in range(2**mantissa_bits)
    ]
    return np.array([number for number in numbers if number <= largest])


def nearest_even(values, numbers):
    """The nearest of the numbers, of two equally near ones that with the even code."""
    above = np.clip(np.searchsorted(numbers, values), 1, len(numbers) - 1)
    below = above - 1
    up, down = numbers[above] - values, values - numbers[below]
    return np.where((down < up) | ((down == up) & (below % 2 == 0)), numbers[below], numbers[above])


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from([8, 4]), st.integers(2, 6))
def test_groups_are_the_equation(matrix, bits, size):
    found = decoded(GroupCodec(bits, size), torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, grouped_by_hand(matrix, bits, size), rtol=1e-5, atol=1e-35)


@pytest.mark.parametrize("scheme", FLOATS)
@settings(deadline=None, max_examples=60)
@given(matrices)
def test_small_floats_are_the_nearest_numbers_of_their_definition(scheme, matrix):
    largest = FLOATS[scheme][2]
    scale = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(largest)
    divisor = np.maximum(scale, np.finfo(np.float32).tiny)
    scaled = np.minimum(np.abs(matrix / divisor), np.float32(largest))
    expected = np.sign(matrix) * nearest_even(scaled.astype(np.float64), numbers_of(*FLOATS[scheme])) * scale
    found = decoded(weight_codec(scheme, 0), torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize(
    "codec", [GroupCodec(8, 4), GroupCodec(4, 4), *(weight_codec(name, 0) for name in FLOATS)], ids=str
)
def test_zeros_subnormals_and_one_outlier(codec):
    weight = torch.tensor([[0.0] * 5, [1e-42, 0, 0, 0, 0], [1e4, 1e-3, 1e-3, 1e-3, 0.5]])
    found = decoded(codec, weight)
    assert torch.isfinite(found).all()
    assert found[0].abs().max() == 0
    assert found[1].abs().max() <= 2e-42
    assert found[2, 0] == pytest.approx(1e4, rel=1e-6)
    # An outlier costs its own group, or what 8-bit floats cannot express beside it; another group keeps its precision.
    if isinstance(codec, GroupCodec):
        assert found[2, 1:4].abs().max() == 0
        assert found[2, 4] == pytest.approx(0.5)
    else:
        assert found[2, 4] == pytest.approx(0.5, rel=0.13)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-8, 7)))
def test_four_bit_codes_come_back_and_take_half_a_byte(codes):
    packed = pack_int4(torch.from_numpy(codes))
    assert packed.dtype == torch.uint8
    assert packed.shape == (len(codes), (codes.shape[1] + 1) // 2)
    assert np.array_equal(unpack_int4(packed, codes.shape[1]).numpy(), codes)


def test_a_row_of_a_table_is_decoded_as_in_the_whole():
    weight = torch.randn(6, 7)
    for codec in (GroupCodec(4, 3), Float8Codec(torch.float8_e5m2)):
        codes, scales = codec.encode(weight)
        rows = torch.tensor([[5, 0], [2, 2]])
        taken = codes.view(torch.uint8)[rows].view(codes.dtype)
        assert torch.equal(codec.decode(taken, scales[rows], 7), codec.decode(codes, scales, 7)[rows])
