"""Learning without Forgetting: the plugin, and distillation beside it."""
