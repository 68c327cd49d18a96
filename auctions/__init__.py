"""Bid ordering: a pure core and its sequencer. Standard library only; imports nothing of the other rings."""
