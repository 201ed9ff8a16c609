"""Plots: functions of figures, written as PNG and SVG."""
