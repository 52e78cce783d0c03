"""The public face: what goes in, what comes out in which shape, and what is refused."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import refgrad
from refgrad.graph import Graph, Node, Provenance, chain
from refgrad.ops import Affine, Elementwise, Source

KERNEL, BIAS = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 1.0]]), np.array([0.25, -0.5])
NET = refgrad.Network.sequential([(KERNEL, BIAS, "relu")])
SCALAR = refgrad.Network.sequential([(np.array([[2.0, -1.0]]), None, "relu"), (np.ones((2, 1)), None, "linear")])


@pytest.mark.parametrize(
    ("x", "y_shape", "j_shape"),
    [
        ([[1.0, 2, 3], [4, 5, 6]], (2, 2), (2, 2, 3)),
        ([1, 2, 3], (2,), (2, 3)),
        (np.arange(6).reshape(2, 3), (2, 2), (2, 2, 3)),
        (np.arange(6, dtype=">f8").reshape(2, 3), (2, 2), (2, 2, 3)),
        (np.asfortranarray(np.ones((4, 3))), (4, 2), (4, 2, 3)),
        (np.ones((4, 6))[:, ::2], (4, 2), (4, 2, 3)),
        (np.ones((0, 3)), (0, 2), (0, 2, 3)),
        (np.array([True, False, True]), (2,), (2, 3)),
    ],
)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_batch_or_one_sample(x, y_shape, j_shape, engine):
    y, jacobian = NET.value_and_jacobian(x, engine=engine)
    assert (y.shape, jacobian.shape) == (y_shape, j_shape)
    z = np.asarray(x, float) @ KERNEL + BIAS
    np.testing.assert_allclose(y, np.maximum(z, 0), rtol=1e-15)
    np.testing.assert_allclose(jacobian, (z > 0)[..., :, None] * KERNEL.T, rtol=1e-15)
    np.testing.assert_array_equal(NET(x, engine=engine), y)


@pytest.mark.parametrize(
    ("x", "batch"), [(0.5, ()), ([0.5], (1,)), ([0.5, -1, 2], (3,)), ([[0.5], [1]], (2,)), (np.float32(2), ())]
)
def test_one_feature_takes_numbers_and_rows_of_them(x, batch):
    y, jacobian = SCALAR.value_and_jacobian(x)
    assert (y.shape, jacobian.shape) == ((*batch, 1), (*batch, 1, 1))
    assert SCALAR.gradient(x).shape == (*batch, 1)
    assert SCALAR(x).shape == (*batch, 1)


def test_tangents_are_shaped_like_x_for_one_feature_too():
    assert [part.shape for part in SCALAR.jvp(0.5, 1.0)] == [(1,), (1,)]
    assert [part.shape for part in SCALAR.jvp(0.5, [1.0, 2.0])] == [(1,), (2, 1)]
    assert [part.shape for part in SCALAR.jvp([0.5, 1, 2], [1, 1, 1])] == [(3, 1), (3, 1)]
    assert [part.shape for part in SCALAR.jvp([0.5, 1, 2], np.ones((4, 3)))] == [(3, 1), (4, 3, 1)]
    assert [part.shape for part in SCALAR.vjp(0.5, [1.0])] == [(1,), (1,)]
    np.testing.assert_array_equal(SCALAR.jvp([0.5, -1], [2, 3])[1], 2 * np.array([[2.0], [-1.5]]))
    for x, tangent, shape in ((0.5, 1.0, (1,)), ([0.5, 1], [1, 1], (2, 1)), ([0.5, 1], np.ones((3, 2)), (3, 2, 1))):
        assert SCALAR.jvp({"input": x}, {"input": tangent})[1].shape == shape


def test_big_endian_is_asked_for_in_vain():
    assert NET.astype(">f4").dtype == np.dtype("=f4")
    assert NET.astype(">f4").jacobian(np.ones(3), engine="numba").dtype == np.float32


def test_jvp_and_vjp_shapes():
    x, t, c = np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 2))
    assert [part.shape for part in NET.jvp(x, t)] == [(4, 2), (4, 2)]
    assert [part.shape for part in NET.jvp(x, np.ones((5, 4, 3)))] == [(4, 2), (5, 4, 2)]
    assert [part.shape for part in NET.jvp(x[0], t[0])] == [(2,), (2,)]
    assert [part.shape for part in NET.jvp(x[0], t)] == [(2,), (4, 2)]
    assert [part.shape for part in NET.vjp(x, c)] == [(4, 2), (4, 3)]
    assert [part.shape for part in NET.vjp(x, np.ones((5, 4, 2)))] == [(4, 2), (5, 4, 3)]
    assert [part.shape for part in NET.vjp(x[0], c[0])] == [(2,), (3,)]
    assert [part.shape for part in NET.vjp(x[0], c)] == [(2,), (4, 3)]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 4)), r"input 'input' has shape \(2, 4\); expected \(batch, 3\) or one sample of shape \(3,\)"),
        (np.ones(4), r"has shape \(4,\)"),
        (np.ones((1, 2, 3)), r"has shape \(1, 2, 3\)"),
        (1.0, r"has shape \(\)"),
        ("abc", "holds str"),
        ([["a", "b", "c"]], "holds str"),
        ([None, 1, 2], "holds object"),
        (np.ones(3, complex), "holds complex128"),
        ([1j, 2, 3], "holds complex128"),
        ([[1, 2, 3], [4, 5]], "rows differ in length"),
        ({"other": 1}, "a dict with the keys .other."),
        (np.array(["2020-01-01"] * 3, "M8[D]"), "holds datetime64"),
        (np.ma.masked_less([1.0, 2, 3], 2), "masked array"),
    ],
)
def test_inputs_that_are_refused(x, message):
    for call in (NET, NET.jacobian, NET.value_and_jacobian, lambda x: NET.jvp(x, x), lambda x: NET.vjp(x, [1, 1])):
        with pytest.raises(refgrad.InputError, match=message):
            call(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NET.jvp(np.ones(3), np.ones(2)), r"tangent has shape \(2,\); expected \(3,\), or \(k, 3\)"),
        (lambda: NET.jvp(np.ones((4, 3)), np.ones((3, 3))), r"tangent has shape \(3, 3\)"),
        (lambda: NET.jvp(np.ones(3), ["a", "b", "c"]), "tangent holds str"),
        (lambda: NET.vjp(np.ones(3), np.ones(3)), r"cotangent has shape \(3,\); expected \(2,\), or \(k, 2\)"),
        (
            lambda: NET.jacobian(np.ones(3), mode="sideways"),
            "mode='sideways' is not one of 'auto', 'forward', 'reverse'",
        ),
        (lambda: NET.jacobian(np.ones(3), kink="both"), "kink='both' is not one of 'keras', 'left', 'right'"),
        (lambda: NET.jacobian(np.ones(3), engine="fortran"), "engine='fortran' is not one of 'auto', 'numpy', 'numba'"),
        (lambda: NET(np.ones(3), engine="x"), "engine='x'"),
        (lambda: NET.jvp(np.ones(3), np.ones(3), kink="x"), "kink='x'"),
        (lambda: NET.vjp(np.ones(3), np.ones(2), kink="x"), "kink='x'"),
        (lambda: NET.gradient(np.ones(3)), "use jacobian"),
        (lambda: NET.astype("float16"), "float32 or float64, not in float16"),
        (lambda: NET.astype("nonsense"), "'nonsense' is no floating dtype"),
        (lambda: NET.astype(None), "None is no floating dtype"),
        (lambda: NET.astype(int), "is no floating dtype"),
        (lambda: NET.jacobian(np.ones(3), mode=np.array(["auto"])), "mode="),
        (lambda: NET.jvp(np.ones(3), np.ones(3), engine="fortran"), "engine='fortran'"),
        (lambda: refgrad.Network.sequential([]), "at least one layer"),
        (lambda: refgrad.Network.sequential([(np.ones((2, 2)), None, "relu")], keras=4), "keras=4"),
        (
            lambda: refgrad.Network.sequential([(np.ones(2), None, "relu")]),
            r"dense_0: kernel is float64 of shape \(2,\)",
        ),
        (lambda: refgrad.Network.sequential([(np.ones((2, 2), int), None, "relu")]), "kernel is int64"),
        (lambda: refgrad.Network.sequential([(np.ones((2, 2)), None)]), "a layer is three values"),
        (lambda: refgrad.Network.sequential([3]), "a layer is three values"),
        (lambda: refgrad.Network.sequential([(np.ones((3, 1)), None, None)]), "a layer is three values"),
        (
            lambda: refgrad.Network.sequential([([[1.0], [1.0, 2.0]], None, "relu")]),
            "2-dimensional floats are expected",
        ),
        (lambda: refgrad.save("net", "net.npz"), "takes a Network, not a str"),
        (lambda: refgrad.save(NET, None), "the output is the path of a file, not a NoneType"),
        (lambda: refgrad.audit("net", np.ones(3)), "takes a Network, not a str"),
    ],
)
def test_options_that_are_refused(call, message):
    with pytest.raises(refgrad.InputError, match=message):
        call()


def test_layers_that_do_not_fit_are_named():
    with pytest.raises(refgrad.MismatchError, match=r"layer 'dense_1'.*\(3, 1\) takes 3 features.*shape \(2,\)"):
        refgrad.Network.sequential([(np.ones((3, 2)), None, "relu"), (np.ones((3, 1)), None, "linear")])
    with pytest.raises(
        refgrad.MismatchError, match=r"dense_0: bias has shape \(3,\); the kernel \(2, 2\) needs \(2,\)"
    ):
        refgrad.Network.sequential([(np.ones((2, 2)), np.ones(3), "relu")])
    with pytest.raises(
        refgrad.UnsupportedError, match=r"dense_0: activation 'wobble' is not one of Keras 3's: linear, relu"
    ):
        refgrad.Network.sequential([(np.ones((3, 2)), None, "wobble")])


def test_layers_without_units_are_refused():
    with pytest.raises(refgrad.MismatchError, match=r"layer 'dense_0': its output has shape \(0,\)"):
        refgrad.Network.sequential([(np.ones((3, 0)), None, "relu")])
    with pytest.raises(refgrad.MismatchError, match=r"layer 'input': its output has shape \(0,\)"):
        refgrad.Network.sequential([(np.ones((0, 3)), None, "relu")])


@pytest.mark.parametrize(
    ("inputs", "outputs", "names"),
    [
        ((), (1,), ()),
        ((0,), (), ("x",)),
        ((0,), (2,), ("x",)),
        ((0,), (-1,), ("x",)),
        ((1,), (1,), ("x",)),
        ((0,), (1,), ()),
        ((0, 0), (1,), ("x", "again")),
    ],
)
def test_a_graph_with_loose_ends_is_refused(inputs, outputs, names):
    nodes = (Node(Source((2,)), (), "x"), Node(Affine(np.ones((2, 2))), (0,), "y"))
    with pytest.raises(refgrad.InputError, match=r"ends|take nothing"):
        Graph(nodes, inputs, outputs, names, ("y",) * len(outputs), np.dtype("float64"), Provenance())
    with pytest.raises(refgrad.InputError, match="take nothing"):
        Graph(
            (nodes[0], Node(Affine(np.ones((2, 2))), (), "y")), (0,), (1,), ("x",), ("y",), np.dtype("f8"), Provenance()
        )


def test_a_graph_of_other_arrays_than_it_says_is_refused():
    nodes = (Node(Source((2,)), (), "x"), Node(Affine(np.ones((2, 2))), (0,), "y"))
    with pytest.raises(refgrad.MismatchError, match="layer 'y': kernel is float64 in a network of float32"):
        Graph(nodes, (0,), (1,), ("x",), ("y",), np.dtype("float32"), Provenance())


def test_ends_are_named_differently():
    nodes = (Node(Source((2,)), (), "x"), Node(Affine(np.ones((2, 2))), (0,), "y"))
    with pytest.raises(refgrad.InputError, match=r"the ends \('y', 'y'\) are not all named differently"):
        Graph(nodes, (0,), (0, 1), ("x",), ("y", "y"), np.dtype("float64"), Provenance())


def test_a_graph_out_of_order_is_refused():
    nodes = (Node(Source((2,)), (), "x"), Node(Affine(np.ones((2, 2))), (1,), "loop"))
    with pytest.raises(refgrad.InputError, match=r"node 1 \('loop'\) takes its inputs from \(1,\)"):
        Graph(nodes, (0,), (1,), ("x",), ("y",), np.dtype("float64"), Provenance())


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float32"), "float32"),
        (("float32", "float64"), "float64"),
        (("float64", "float64"), "float64"),
        (("float16", "float16"), "float32"),
        ((">f4", "<f4"), "float32"),
    ],
)
def test_the_dtype_is_the_widest_of_the_weights(dtypes, expected):
    net = refgrad.Network.sequential([(np.ones((2, 2), dtypes[0]), np.ones(2, dtypes[1]), "tanh")])
    assert net.dtype == np.dtype(expected)
    for engine in ("numpy", "numba"):
        assert {part.dtype.name for part in net.value_and_jacobian([[1, 2]], engine=engine)} == {expected}
    assert {array.dtype.name for node in net.graph.nodes for array in node.op.arrays().values()} == {expected}


def test_astype_computes_in_the_other_dtype():
    third = refgrad.Network.sequential([(np.array([[1 / 3]]), None, "linear")])
    assert third.astype("float32").astype("float64")(1.0)[0] == np.float32(1 / 3)
    assert third.astype(np.float32).digest != third.digest


KINK = refgrad.Network.sequential(
    [(np.array([[1.0, -1.0]]), None, "relu"), (np.array([[1.0], [-1.0]]), None, "linear")]
)


@pytest.mark.parametrize(("kink", "slope"), [("keras", 0), ("left", 0), ("right", 2), ("mean", 1)])
def test_kink_policies(kink, slope):
    """y = relu(x) − relu(−x) = x, whose derivative at 0 Keras takes for 0: the truth is 1."""
    for engine in ("auto", "numpy"):
        assert KINK.gradient(0.0, kink=kink, engine=engine) == slope
        assert KINK.gradient(0.5, kink=kink, engine=engine) == 1
    assert KINK.jvp(0.0, 1.0, kink=kink)[1] == slope
    assert KINK.vjp([0.0], [[1.0]], kink=kink)[1] == slope


def test_a_kink_that_is_to_raise_names_sample_and_unit():
    assert KINK.gradient([1.0, 2.0], kink="raise").shape == (2, 1)
    for call in (KINK.jacobian, lambda x, kink: KINK.jvp(x, [0, 0, 0], kink=kink)):
        with pytest.raises(refgrad.KinkError, match=r"sample 1: unit dense_0/relu\[0\] is exactly on a kink"):
            call([1.0, 0.0, 2.0], kink="raise")


def test_an_identity_network_has_the_identity_as_jacobian():
    net = refgrad.Network(chain((2,), [], np.dtype("float64"), Provenance()))
    x = np.array([[1.0, 2], [3, 4]])
    y, jacobian = net.value_and_jacobian(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(jacobian, [np.eye(2)] * 2)
    for result in (y, net(x), net.jvp(x, x)[1], net.vjp(x, x)[1], net.jvp(x[0], x[0])[0]):
        assert not np.shares_memory(result, x)


def test_features_of_two_axes():
    """Dense acts on the last axis; J is (batch, *out, *in)."""
    net = refgrad.Network(chain((2, 3), [("dense", Affine(KERNEL, BIAS))], np.dtype("float64"), Provenance()))
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    expected = np.einsum("pq,ij->pjqi", np.eye(2), KERNEL)
    for mode in ("forward", "reverse"):
        y, jacobian = net.value_and_jacobian(x, mode=mode)
        np.testing.assert_allclose(y, x @ KERNEL + BIAS, rtol=1e-15)
        np.testing.assert_array_equal(jacobian, np.broadcast_to(expected, (5, 2, 2, 2, 3)))
    assert net.jacobian(x[0]).shape == (2, 2, 2, 3)


def test_networks_are_immutable_and_copy_to_equals():
    given = KERNEL.copy()
    net = refgrad.Network.sequential([(given, BIAS, "relu"), (np.ones((2, 1)), None, "tanh")])
    before = net.jacobian(np.ones(3))
    given[...] = 0
    np.testing.assert_array_equal(net.jacobian(np.ones(3)), before)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), copy.copy(net)):
        assert twin.digest == net.digest
        np.testing.assert_array_equal(twin.jacobian(np.ones(3)), before)
        for node in twin.graph.nodes:
            for array in node.op.arrays().values():
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0
                with pytest.raises(ValueError, match="WRITEABLE"):
                    array.setflags(write=True)
    with pytest.raises(AttributeError):
        net.graph = None
    with pytest.raises(AttributeError):
        net.graph.nodes[1].op.kernel = None


def test_the_digest_tells_networks_apart():
    def digest(kernel=KERNEL, bias=BIAS, activation="relu", keras=3):
        return refgrad.Network.sequential([(kernel, bias, activation)], keras=keras).digest

    other = KERNEL.copy()
    other[0, 0] = np.nextafter(other[0, 0], 2)
    variants = [digest(), digest(other), digest(bias=None), digest(activation="tanh"), digest(keras=2)]
    variants.append(digest(KERNEL.astype("float32"), BIAS.astype("float32")))
    assert len(set(variants)) == len(variants)
    assert digest() == digest(np.asfortranarray(KERNEL)) == digest(KERNEL.astype(">f8"))
    relu = [chain((3,), [("a", Elementwise("relu", (6.0, 0.0, t)))], np.dtype("f8"), Provenance()) for t in (0.0, 1.0)]
    assert relu[0].digest != relu[1].digest


def test_many_threads_get_the_same_results():
    x = np.random.default_rng(0).normal(size=(50, 3))
    for engine in ("numpy", "numba"):
        net = pickle.loads(pickle.dumps(NET))
        expected, found = NET.jacobian(x, engine=engine), []
        work = lambda net=net, engine=engine, found=found: found.append(net.jacobian(x, engine=engine))  # noqa: E731
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        for one in found:
            np.testing.assert_array_equal(one, expected)


def test_weights_beyond_the_other_dtype_are_infinite_without_warnings():
    net = refgrad.Network.sequential([(np.array([[1e300]]), None, "linear")]).astype("float32")
    assert net(1.0) == np.inf


def test_overflow_and_nan_pass_without_warnings():
    net = refgrad.Network.sequential([(np.array([[1e300]]), None, "relu"), (np.array([[1e300]]), None, "linear")])
    assert net(1e10, engine="numpy") == np.inf
    assert np.isnan(net(np.nan, engine="numpy"))
    assert net.jvp(1e10, 1.0)[1] == np.inf
    assert refgrad.Network.sequential([(np.ones((1, 1), "f4"), None, "linear")])(1e300) == np.inf


def test_the_summary_says_what_it_is():
    text = NET.summary()
    for part in ("dense_0", "affine", "(2,)", "relu", "8 parameters, computed in float64", "kink rules of Keras 3"):
        assert part in text
    assert (NET.input_names, NET.input_shapes) == (("input",), ((3,),))
    assert (NET.output_names, NET.output_shapes) == (("dense_0/relu",), ((2,),))


def test_a_repr_is_short():
    assert len(repr(NET)) < 200


def test_kinks_equal_themselves_only():
    """They hold arrays, which could not be compared."""
    net = refgrad.Network.sequential([(np.ones((1, 2)), None, "relu")])
    x = np.array([[1.0], [2.0]])
    found, again = net.kinks(x), net.kinks(x)
    assert found == found
    assert found != again
    assert len({found, again}) == 2
    assert repr(net.kinks(x[:0])) == "<refgrad Kinks: no samples>"
