"""Checks that news reaches every web process."""

from collections.abc import Iterator
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning

REDIS_REMEDY = "Set CHANNEL_LAYERS to channels_redis: pip install livejobs[redis]."


@register
def there_is_a_channel_layer(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell if there is no channel layer that can be loaded."""
    try:
        layer = get_channel_layer()
    except Exception as problem:
        yield Error(f"The channel layer cannot be loaded: {problem}", hint=REDIS_REMEDY, id="livejobs.E006")
        return
    if layer is None:
        yield Error(
            "There is no channel layer: web processes cannot tell one another of jobs.",
            hint='Set CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}} for one web '
            f"process. For several: {REDIS_REMEDY}",
            id="livejobs.E005",
        )


@register(Tags.security, deploy=True)
def the_channel_layer_reaches_every_process(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Tell of the in-memory layer: pages of a second web process would learn of their jobs late, or never."""
    try:
        layer = get_channel_layer()
    except Exception:
        return  # E006 tells of it
    if isinstance(layer, InMemoryChannelLayer):
        yield CheckWarning(
            "The in-memory channel layer reaches one web process only: pages that another one serves are not told of "
            "their jobs' progress.",
            hint=f"If there is more than one web process: {REDIS_REMEDY}",
            id="livejobs.W002",
        )
