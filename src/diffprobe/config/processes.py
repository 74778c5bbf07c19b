"""What an experiment's diffusion process may be."""

from typing import Annotated, Literal

from pydantic import Field

from diffprobe.config.base import Integer, Number, Strict


class EDM(Strict):
    """The EDM objective (Karras et al. 2022): preconditioning, log-normal noise levels in training."""

    kind: Literal["edm"]
    sigma_data: Number = Field(
        0.5, gt=0, description="Standard deviation that the preconditioning takes the data to have."
    )
    p_mean: Number = Field(-1.2, description="Mean of ln(sigma) in training.")
    p_std: Number = Field(1.2, gt=0, description="Standard deviation of ln(sigma) in training.")
    sigma_min: Number = Field(0.002, gt=0, description="Lowest noise level that may be asked for.")
    sigma_max: Number = Field(
        80.0, gt=0, description="Highest noise level that may be asked for; sampling starts there."
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean",
        description="The loss is the mean over an image's elements (DDAE), or their sum (the paper): alike for Adam, "
        "not for `clip`.",
    )


class DDPM(Strict):
    """The DDPM objective (Ho et al. 2020): discrete steps t = 1 .. `steps`, the noise predicted."""

    kind: Literal["ddpm"]
    steps: Integer = Field(1000, ge=2, description="Steps T.")
    beta_min: Number = Field(1e-4, gt=0, lt=1, description="beta_1; betas rise linearly.")
    beta_max: Number = Field(0.02, gt=0, lt=1, description="beta_T.")
    time_input: Literal["index", "fraction"] = Field(
        "index", description="What the network is told: t - 1 (the paper's code), or t/T (DDAE)."
    )


class Flow(Strict):
    """Flow matching on the straight path (Lipman et al. 2023): x_t = (1 - t) x + t n, the velocity n - x predicted. The
    network is told t; `network.time_scale` of 1000 suits its sinusoids.
    """

    kind: Literal["flow"]
    t: Literal["uniform", "logit_normal"] = Field("uniform", description="How t is drawn in training.")
    t_mean: Number = Field(0.0, description="Mean of the logit of t, for `logit_normal`.")
    t_std: Number = Field(1.0, gt=0, description="Its standard deviation.")


Process = Annotated[EDM | DDPM | Flow, Field(discriminator="kind")]
