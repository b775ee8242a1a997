"""Parts that pages are put together from; none of them knows a model."""
