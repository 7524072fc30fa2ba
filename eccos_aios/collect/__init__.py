"""Collecting a history: every core is asked every question, answers are graded and recorded."""
