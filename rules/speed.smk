# What Snakemake does at every start or for every job, and this workflow has no need of. Included after all rules.
import atexit
import gc
import sys
from inspect import signature

import snakemake.persistence
from snakemake.common import overwrite_function_params

# Of a large config Snakemake keeps millions of small objects until it ends. Looking for cycles among them at Python's
# usual rate takes a quarter of a dry run, and freeing them one by one at the end a sixth.
gc.set_threshold(100_000, 50, 1000)
atexit.register(gc.freeze)

# Snakemake inspects the signatures of rules' functions many times per job, a tenth of a dry run. Here each is inspected
# once, and Snakemake told.
for each in (Resource.evaluate, *(function for step in workflow.rules for function in functions(step))):
    overwrite_function_params(each, signature(each).parameters)

# Snakemake copies all global names several times for each command that it formats, a fourteenth of a dry run. Our
# commands use none. A workflow that includes this one may.
if len(workflow.included_stack) == 2:  # the Snakefile and this file
    workflow.modifier.globals = {name: workflow.globals[name] for name in ("config", "checkpoints")}

# Snakemake imports pandas to ask of each param whether it is a table of pandas, half a second of every start. There are
# such tables only where pandas is loaded already. A Snakemake that does this otherwise is left as it is.
PERSISTENCE = getattr(snakemake.persistence, "PersistenceBase", object)


def serialised(persistence, value):
    pandas = "pandas" in sys.modules
    return (persistence._serialize_param_pandas if pandas else persistence._serialize_param_builtin)(value)


if all(hasattr(PERSISTENCE, f"_serialize_param{ending}") for ending in ("", "_pandas", "_builtin")):
    PERSISTENCE._serialize_param = serialised
