"""Why the model gave an answer: gradient attribution over words, attention, and a check that says whether it means
anything.
"""

from polydetr.explain.gradients import Attribution, integrated_gradients
from polydetr.explain.result import ExplainedWord, Explanation
from polydetr.explain.run import explain_record

__all__ = ["Attribution", "ExplainedWord", "Explanation", "explain_record", "integrated_gradients"]
