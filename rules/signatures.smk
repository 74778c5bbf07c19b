# Included after all rules. Snakemake inspects the signatures of their functions many times per job, a tenth of a dry
# run; here each is inspected once, and Snakemake told.
from inspect import signature

from snakemake.common import overwrite_function_params


def functions(rule):
    """The functions that make a rule's inputs and params."""
    items = [getattr(item, "callable", item) for item in (*rule.input, *rule.params)]
    return filter(callable, items)  # other items are files and values


for each in (Resource.evaluate, *(function for rule in workflow.rules for function in functions(rule))):
    overwrite_function_params(each, signature(each).parameters)
