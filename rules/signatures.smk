# Included after all rules. Snakemake inspects the signatures of their functions many times per job, a tenth of a dry
# run; here each is inspected once, and Snakemake told.
from inspect import signature

from snakemake.common import overwrite_function_params

for each in (Resource.evaluate, *(function for step in workflow.rules for function in functions(step))):
    overwrite_function_params(each, signature(each).parameters)
