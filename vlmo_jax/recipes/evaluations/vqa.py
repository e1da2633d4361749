"""Questions about images."""

from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.datasets.examples import all_examples
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.vqa import VqaEvaluator
from vlmo_jax.evals.vqa_server import whole_split
from vlmo_jax.recipes.data.questions import QuestionsData, open_questions
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.tasks.abilities import AnswersQuestions
from vlmo_jax.tasks.vqa import make_answerer


class VqaEvaluationRecipe(SplitsRecipe):
    """The official accuracy of what a model answers; see `protocols.EvaluationRecipe`."""

    needs = AnswersQuestions

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._questions = self.require_part("data", data, QuestionsData)
        self._counts: dict[str, int] = {}

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        check_heads(self.config, f"evals.{self.name}", ("vqa",))

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_questions)

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`; once the evaluation is made, which counts questions."""
        return {
            "protocol": "official VQA accuracy of the likeliest of"
            f" {len(self._questions.targets.answers):,} answers",
            "questions": self._counts[split],
            "images": len(self.splits[split]),
            "answer_matching": self.config.data.answer_matching,
        }

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> AnsweredEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data = self.config.data
        evaluators = [self._evaluator(name, opened, mesh) for name, opened in self.splits.items()]
        answer = make_answerer(graphdef, mean=tuple(data.mean), std=tuple(data.std))
        return AnsweredEvaluation(self.name, evaluators, answer)

    def _evaluator(self, name: str, opened: Any, mesh: jax.sharding.Mesh) -> VqaEvaluator:
        examples = all_examples(opened)
        self._counts[name] = len(examples)
        return VqaEvaluator(
            examples,
            self.tokenizer,
            self._questions.rows,
            self._questions.targets,
            name=name,
            batch_size=self.fields.batch_size,
            mesh=mesh,
            loading=self.loading(),
            whole=whole_split(opened.directory, opened.split, len(examples)),
        )
