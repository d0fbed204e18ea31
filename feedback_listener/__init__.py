"""Joins labels with results and keeps the accuracy gauges."""
