"""Whatever is handed to a public entrance, the answer is right or one sentence that names the cure.

All is run in a process of its own, without the run-time type checker of the other tests, as users
have none.
"""

# ruff: noqa: E501  a table
import json
import re
import subprocess
import sys
from typing import Any

import pytest

SETUP = """
import json, sys
import numpy as np, torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import dfal
from dfal.experiments.trial import Trial

torch.manual_seed(0)
X, Y = torch.rand(12, 1, 28, 28), torch.arange(12) % 3
net = dfal.lenet5()
pool = dfal.Pool.new(X, {0: 1, 1: 2})
data = pool.labelled_data()
once = dfal.Training(epochs=1)
rng = lambda: dfal.generator(0, 0, "select")
sets = TensorDataset(X, Y)
picture = Image.new("RGB", (28, 28))
def fit(pool, seed): return dfal.fit(dfal.lenet5, pool.labelled_data(), once, seed)
def oracle(indices): return Y[indices]
def loop(**changes):
    given = {"pool": pool, "fit": fit, "strategy": dfal.Random(), "oracle": oracle, "annotations": 4, "batch": 2} | changes
    return list(dfal.active_learning(**given))
class Skorch:
    module = dfal.lenet5
    def fit(self, x, y): ...
fitted = Skorch()
fitted.module_ = net
class Trainer:
    model = net
class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(10))
def labelled(**changes):
    return dfal.LabelledData(**({"images": data.images, "labels": data.labels, "source": data.source} | changes))
"""

WRONG: dict[str, str] = {
    # Pool.new and Images
    "dfal.Pool.new(sets, {})": (
        r"images must be an array or a tensor .* they are TensorDataset:"
        r" dfal\.Images\.of\(dataset\) reads it"
    ),
    "dfal.Images(sets)": r"they are TensorDataset",
    "dfal.Pool.new(DataLoader(sets), {})": (
        r"they are DataLoader: give the images of its data set, torch.stack"
    ),
    "dfal.Pool.new(torch.utils.data.Subset(sets, [0]), {})": (
        r"they are Subset: give its images, torch.stack"
    ),
    "dfal.Pool.new(picture, {})": r"they are Image: give one array, np.stack",
    "dfal.Pool.new([picture, picture], {})": r"they are list of Image: give one array, np.stack",
    "dfal.Pool.new([(X[0], 1), (X[1], 0)], {})": r"they are list of tuple: give one array",
    "dfal.Pool.new(['a.png', 'b.png'], {})": r"they are list of str: give one array",
    "dfal.Pool.new([X[0], X[1, :, :20]], {})": r"the images of this list have several shapes",
    "dfal.Pool.new('photos', {})": r"they are str: give one array",
    "dfal.Pool.new(None, {})": r"they are NoneType: give one array",
    "dfal.Pool.new(X.to_sparse(), {})": (
        r"must be a dense tensor, but it is torch.sparse_coo on cpu: try images.to_dense\(\)"
    ),
    "dfal.Pool.new(X.long(), {})": r"images must be uint8 or floating point, but they are int64",
    "dfal.Pool.new(X, {0: 'cat'})": (
        r"known\[0\] = cat is not a class: classes are 0, 1, 2, …; number the names of classes"
    ),
    "dfal.Pool.new(X, {0: 1.5})": r"known\[0\] = 1.5 is not a class",
    "dfal.Pool.new(X, {0: float('nan')})": r"known\[0\] = nan is not a class",
    "dfal.Pool.new(X, {0: None})": r"known\[0\] = None is not a class",
    "dfal.Pool.new(X, {0: -1})": r"known\[0\] = -1 is not a class",
    "dfal.Pool.new(X, {'0': 1})": r"an index of known = '0' is not a whole number",
    "dfal.Pool.new(X, {1.5: 1})": r"an index of known = 1.5 is not a whole number",
    "dfal.Pool.new(X, [1, 2, 0])": (
        r"known must be a mapping .* it is list: for a label of each image give"
        r" dict\(enumerate\(labels\)\)"
    ),
    "dfal.Pool.new(X, Y)": r"known must be a mapping from index to class, but it is Tensor",
    "dfal.Pool.new(X, None)": (
        r"known must be a mapping from index to class, but it is NoneType: give \{\} where there is"
        r" none"
    ),
    "pool.learn(dfal.Random()(net, pool, 2, rng()), ['cat', 'dog'])": (
        r"the answers are not classes .*: give 0, 1, …"
    ),
    "pool.learn(dfal.Random()(net, pool, 2, rng()), None)": r"the answers are not classes",
    "pool.learn(dfal.Random()(net, pool, 2, rng()), [0.5, 1])": (
        r"the answer 0.5 for image \d+ is not a class"
    ),
    "pool.learn(torch.tensor([3, 4]), [0, 1])": (
        r"the query must be a dfal.Query, but it is Tensor"
    ),
    # networks
    "dfal.lenet5(4)": (
        r"image = 4 is no shape of an image that lenet5 takes: give channels, height and width, as in"
        r" lenet5\(\(1, 28, 28\)\); lenet5\(classes=4\) has four classes"
    ),
    "dfal.lenet5((1, 28))": r"image = \(1, 28\) is no shape of an image that lenet5 takes",
    "dfal.lenet5((0, 28, 28))": r"image = \(0, 28, 28\) is no shape",
    "dfal.vgg8('28')": r"image = '28' is no shape of an image that vgg8 takes",
    "dfal.vgg8(None)": r"image = None is no shape of an image that vgg8 takes",
    "dfal.lenet5(classes=0)": r"classes = 0 leaves lenet5 without a logit: give 1 or more",
    "dfal.vgg8(classes=2.5)": r"classes = 2.5 is not a whole number",
    # fit
    "dfal.fit(net, data, once, 0)": (
        r"make must be a function that returns a new network, but it is Sequential: give lambda:"
        r" copy"
    ),
    "dfal.fit('lenet5', data, once, 0)": (
        r"make must be a function that returns a new network, but it is str: give dfal.lenet5"
    ),
    "dfal.fit(LogisticRegression, data, once, 0)": (
        r"what make returns must be a torch.nn.Module .* it is LogisticRegression"
    ),
    "dfal.fit(lambda: None, data, once, 0)": (
        r"what make returns must be a torch.nn.Module .* it is NoneType"
    ),
    "dfal.fit(lambda: dfal.lenet5, data, once, 0)": (
        r"what make returns must be .* it is function: call it, as in lenet5\(\)"
    ),
    "dfal.fit(dfal.lenet5, pool, once, 0)": (
        r"the data must be a dfal.LabelledData, but they are Pool: give pool.labelled_data\(\)"
    ),
    "dfal.fit(dfal.lenet5, sets, once, 0)": (
        r"they are TensorDataset: give dfal.LabelledData\(images, labels, source\)"
    ),
    "dfal.fit(dfal.lenet5, data, {'epochs': 1}, 0)": (
        r"the settings must be a dfal.Training, but they are dict"
    ),
    "dfal.fit(dfal.lenet5, data, once, 'now')": r"seed = 'now' is not a whole number",
    "dfal.fit(dfal.lenet5, data, once, 0.5)": r"seed = 0.5 is not a whole number",
    "dfal.fit(dfal.lenet5, dfal.Pool.new(X, {}).labelled_data(), once, 0)": (
        r"there is no labelled image to train on"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=data.labels.float()), once, 0)": (
        r"labels must be whole numbers.*: try labels.long\(\)"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=[1, 2]), once, 0)": (
        r"labels must be a tensor, but they are list"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=data.labels[:1]), once, 0)": (
        r"a row for each image, but their shapes are images \(2, 1,"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=nn.functional.one_hot(data.labels)), once, 0)": (
        r"labels \(2, 3\)"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=data.labels + 12), once, 0)": (
        r"image 0 has the label 13, .* give the network 15 logits"
    ),
    "dfal.fit(dfal.lenet5, labelled(labels=data.labels - 3), once, 0)": (
        r"image 0 has the label -2, .*: give it a class"
    ),
    "dfal.fit(lambda: dfal.lenet5((3, 28, 28)), data, once, 0)": (
        r"the network cannot take images of shape \(1, 28, 28\)"
    ),
    "dfal.Training(epochs=2.5)": r"epochs = 2.5 is not a whole number",
    "dfal.Training(epochs='30')": r"epochs = '30' is not a whole number",
    "dfal.Training(learning_rate='0.1')": r"learning_rate = '0.1' is not a number",
    "dfal.Training(learning_rate=float('inf'))": r"learning_rate must be more than 0 and finite \(got inf\)",
    # strategies
    "dfal.Random()(net, pool, 2, 0)": (
        r"rng must be a torch.Generator, but it is int: give dfal.generator\(seed, round,"
        r" 'select'\)"
    ),
    "dfal.DFAL()(net, pool, 2, 0)": r"rng must be a torch.Generator, but it is int",
    "dfal.Margin()(net, pool, 2, np.random.default_rng(0))": (
        r"rng must be a torch.Generator, but it is Generator"
    ),
    "dfal.CoreSet()(net, pool, 2, None)": r"rng must be a torch.Generator, but it is NoneType",
    "dfal.WithTwins(dfal.Entropy())(net, pool, 2, 0)": r"rng must be a torch.Generator",
    "dfal.Margin()(net, X, 2, rng())": (
        r"the pool must be a dfal.Pool, but it is Tensor: give dfal.Pool.new\(images, known\)"
    ),
    "dfal.Margin()(net, pool, '2', rng())": r"k = '2' is not a whole number",
    "dfal.Margin()(net, pool, -2, rng())": r"k = -2 must be 0 or more images",
    "dfal.Margin()(LogisticRegression(), pool, 2, rng())": (
        r"the network must be a torch.nn.Module that returns logits, but it is "
        r"LogisticRegression: models of other libraries have no gradients here"
    ),
    "dfal.DFAL()(fitted, pool, 2, rng())": r"it is Skorch: give its .module_",
    "dfal.DFAL()(Skorch(), pool, 2, rng())": r"it is Skorch: fit it first, and give its .module_",
    "dfal.Margin()(Trainer(), pool, 2, rng())": r"it is Trainer: give its .model",
    "dfal.Margin()(dfal.lenet5, pool, 2, rng())": r"it is function: call it, as in lenet5\(\)",
    "dfal.Margin()(Lazy, pool, 2, rng())": r"it is the class Lazy: call it, as in Lazy\(\)",
    "dfal.Margin()(net.state_dict(), pool, 2, rng())": (
        r"it is OrderedDict: make the network and give it these with load_state_dict"
    ),
    "dfal.WithTwins(dfal.Random())(None, pool, 2, rng())": (
        r"the network must be a torch.nn.Module .* it is NoneType"
    ),
    # attacks and what looks at a network
    "dfal.DeepFool()(LogisticRegression(), X)": (
        r"the network must be a torch.nn.Module .* it is LogisticRegression"
    ),
    "dfal.FGSM()(fitted, X)": r"it is Skorch: give its .module_",
    "dfal.predict(LogisticRegression(), X)": (
        r"the network must be a torch.nn.Module .* it is LogisticRegression"
    ),
    "dfal.DeepFool()(X, net)": r"the network must be a torch.nn.Module .* it is Tensor",
    "dfal.DeepFool()(net, sets)": r"images must be a tensor, but they are TensorDataset",
    "dfal.DeepFool()(net, picture)": r"images must be a tensor, but they are Image",
    # active_learning
    "loop(pool=X)": r"the pool must be a dfal.Pool, but it is Tensor",
    "loop(fit=dfal.fit)": (
        r"fit takes \(.*\).*, but it is called with \(pool, seed\): give lambda pool, seed:"
        r" dfal.fit\("
    ),
    "loop(fit=net)": (
        r"fit must be a function \(pool, seed\) that returns a trained network, but it is a network"
    ),
    "loop(fit=None)": r"fit must be a function \(pool, seed\), but it is NoneType",
    "loop(strategy='dfal')": (
        r"the strategy must be a function .* it is str: give dfal.strategies.named\('dfal'\)"
    ),
    "loop(strategy=dfal.Margin)": r"it is the class Margin: give an object of it, Margin\(\)",
    "loop(strategy=lambda model, pool: None)": (
        r"the strategy takes \(model, pool\), but it is called with \(model, pool, k, rng\)"
    ),
    "loop(strategy=lambda model, pool, k, rng: None)": (
        r"the strategy returned NoneType, but a Query is needed"
    ),
    "loop(strategy=dfal.Margin(), fit=lambda pool, seed: LogisticRegression())": (
        r"the network must be .* it is LogisticRegression"
    ),
    "loop(oracle=Y)": (
        r"the oracle must be a function \(indices\), but it is Tensor: give a function .* lambda i:"
        r" labels\[i\]"
    ),
    "loop(oracle=lambda i: ['cat'] * len(i))": r"the answers are not classes",
    "loop(batch='2')": r"batch = '2' is not a whole number",
    "loop(annotations=3.5)": r"annotations = 3.5 is not a whole number",
    "loop(seed='a')": r"seed = 'a' is not a whole number",
    # Trial
    "Trial(strategy='dfal')": (
        r"the strategy must be .* it is str: give dfal.strategies.named\('dfal'\)"
    ),
    "Trial(strategy=dfal.DFAL)": r"it is the class DFAL: give an object of it, DFAL\(\)",
    "Trial(training={'epochs': 1})": r"training must be a dfal.Training, but it is dict",
    "Trial(annotations='100')": r"annotations = '100' is not a whole number",
    "Trial(seed=0.5)": r"seed = 0.5 is not a whole number",
    "Trial(dataset=5)": r"dataset = 5 must be a text, but it is int",
    "Trial(model=net)": r"model = Sequential\(.* must be a text, but it is Sequential",
    # generators
    "dfal.generator('select', 0, 0)": (
        r"the purpose 0 is not text: give dfal.generator\(seed, round, 'select'\)"
    ),
    "dfal.generator('a', 0, 'select')": r"seed = 'a' is not a whole number",
    "dfal.derive_seed(0, None, 'fit')": r"round = None is not a whole number",
}

RIGHT: dict[str, str] = {
    "dfal.Pool.new([X[0], X[1]], {}).images.shape": "(1, 28, 28)",
    "dfal.Pool.new(tuple(X.numpy()), {}).images.shape": "(1, 28, 28)",
    "len(dfal.Pool.new(sets.tensors[0], {}).images)": "12",
    "dfal.Pool.new(X, {np.int64(3): torch.tensor(1), 4.0: np.float32(2)}).labels[3:5].tolist()": (
        "[1, 2]"
    ),
    "dfal.Pool.new(X, dict(enumerate(Y))).annotations": "12",
    "type(dfal.fit(Lazy, data, once, 0)).__name__": "'Lazy'",
    "type(dfal.fit(dfal.lenet5, labelled(labels=data.labels.to(torch.uint8)), once, np.int64(3))).__name__": (
        "'Sequential'"
    ),
    "[one.pool.annotations for one in loop(batch=2.0, annotations=np.int64(4), seed=torch.tensor(1))]": (
        "[2, 4]"
    ),
    "[one.pool.annotations for one in loop(oracle=Y.__getitem__)]": "[2, 4]",
    "Trial(annotations=np.int64(100), batch=10.0, device=torch.device('cpu')).id": (
        "'88ca169baebfa49a'"
    ),
    "dfal.Training(epochs=10.0) == dfal.Training(epochs=10)": "True",
    "dfal.derive_seed(np.int64(7), torch.tensor(2), 'fit') == dfal.derive_seed(7, 2, 'fit') == dfal.derive_seed(7.0, 2, 'fit')": (
        "True"
    ),
}

EVALUATE = """
for line in json.load(sys.stdin):
    try:
        said = ["right", repr(eval(line))]
    except Exception as error:
        known = isinstance(error, dfal.DfalError)
        said = ["DfalError" if known else type(error).__name__, str(error)]
    print(json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    """What each of the lines comes to: a value or an exception."""
    lines = [*WRONG, *RIGHT]
    command = [sys.executable, "-W", "ignore", "-c", SETUP + EVALUATE]
    ran = subprocess.run(
        command, input=json.dumps(lines), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return dict(zip(lines, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_misuse_is_one_sentence_that_names_the_cure(said: dict[str, Any], line: str) -> None:
    kind, sentence = said[line]
    assert kind == "DfalError", sentence
    assert re.search(WRONG[line], sentence), sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("line", RIGHT)
def test_what_can_be_meant_in_one_way_is_taken(said: dict[str, Any], line: str) -> None:
    assert said[line] == ["right", RIGHT[line]]
