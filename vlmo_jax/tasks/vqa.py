"""Visual question answering: fine-tuning's loss, and what a model answers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
from flax import nnx

from vlmo_jax.objectives.answers import answer_losses, chosen_scores, dense_scores
from vlmo_jax.tasks.abilities import AnswersQuestions
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual import IMAGES, visual_input


@dataclasses.dataclass(frozen=True)
class VqaTask(Stateless):
    """The loss of VQAv2; a SummedTask.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        dropout: whether dropout and drop-path draw anything.
        seen: names of the arrays by which an image is seen.

    Source: VLMo, section 4.2; the official `vqa` task.
    """

    gradients = summed_gradients
    weights: ClassVar[Mapping[str, float]] = {"vqa_loss": 1.0}

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = False
    seen: tuple[str, ...] = IMAGES

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        return (*self.seen, "token_ids", "token_mask", "answer_ids", "answer_scores")

    def counts(self, batch: Batch) -> dict[str, int]:
        """Questions of the whole batch."""
        questions = len(batch["token_ids"])
        return {"vqa_loss": questions, "vqa_score": questions}

    def sums(self, model: AnswersQuestions, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """vqa_loss and vqa_score, the score of the likeliest answer, summed over the questions of a
        batch or of a part of it.

        Args:
            model: VLMo with the head "vqa".
            batch: image [B, S, S, 3], token_ids and token_mask [B, T], answer_ids and answer_scores
                [B, N].
            context: nothing.
            key: random key.
        """
        image = visual_input(batch, self.mean, self.std)
        key_or_none = key if self.dropout else None
        logits = model.answer(image, batch["token_ids"], batch["token_mask"], key_or_none)
        scores = dense_scores(batch["answer_ids"], batch["answer_scores"], logits.shape[-1])
        return {
            "vqa_loss": answer_losses(logits, scores).sum(),
            "vqa_score": chosen_scores(logits, scores).sum(),
        }


class Answers(NamedTuple):
    """The likeliest answers to questions, best first.

    Attributes:
        probability: [B, K] float32, of each answer on its own.
        answer_ids: [B, K] int32.
    """

    probability: jax.Array
    answer_ids: jax.Array


def make_answerer(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...], top_k: int = 3
) -> Callable[[Any, Batch], Answers]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image uint8
    [B, S, S, 3], token_ids and token_mask [B, T] -> Answers.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
        top_k: K.
    """

    def answer(params, batch):
        image = visual_input(batch, mean, std)
        model = nnx.merge(graphdef, params)
        logits = model.answer(image, batch["token_ids"], batch["token_mask"])
        return Answers(*jax.lax.top_k(jax.nn.sigmoid(logits), min(top_k, logits.shape[-1])))

    return jax.jit(answer)
