"""Why the model gave an answer: what in the row speaks for it and against it; what it would be without each column;
where it looked; and a check that says whether the attribution means anything.

Nothing here needs torch: a network that can be looked into is asked through ``explain.insides``, all others by
occlusion.
"""

from polydetr.explain.result import Explanation
from polydetr.explain.run import explain_record

__all__ = ["Explanation", "explain_record"]
