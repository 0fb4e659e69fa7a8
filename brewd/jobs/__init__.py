"""Jobs: what brewd does by the clock, for all cafés."""
