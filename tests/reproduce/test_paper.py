"""The numbers that the paper prints."""

import pytest

from dfal.reproduce import paper


def test_the_papers_numbers() -> None:
    mnist = paper.table1("mnist-5k", "lenet5")
    assert mnist["dfal"]["1000"] == pytest.approx(0.9802)
    assert mnist[paper.FULL]["all"] == pytest.approx(0.9904)
    assert paper.table1("shoe-bag", "vgg8")["core-set"]["100"] == 0.5, "a fraction among percents"
    assert paper.table1("fashion-mnist", "lenet5") == {}
    assert paper.table2("mnist", "lenet5")["dfal"] == paper.Table2Row("1210", "2410")
    assert paper.table2("mnist", "lenet5")["ceal"] == paper.Table2Row("≥ 6000", "≥ 6150")
    assert paper.table3() == {"dfal": 126.54, "core-set-robust": 891.78, "core-set": 784.99}
    assert paper.table4("mnist")["dfal", paper.Direction("lenet5", "vgg8")] == pytest.approx(0.978)
    x, y = paper.curves("mnist", "lenet5")["dfal"]
    assert (x[0], x[-1]) == (10, 1000)
    assert y == sorted(y), "running maxima only rise"
    assert paper.figure3()["LeNet5 DFAL"][1][-1] == pytest.approx(0.994)
    names = ["mnist", "mnist-5k", "fashion-mnist", "quick-draw-4", "shoe-bag-sample", "mnist.npz"]
    assert [paper.dataset_of(name) for name in names] == [
        "mnist",
        "mnist",
        None,
        "quick-draw",
        "shoe-bag",
        None,
    ]
