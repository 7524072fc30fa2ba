"""``eccos-aios doctor``: checks whether ECCOS can schedule an AIOS, and says what to fix."""

from eccos_aios.hooks.doctor.diagnosis import diagnose as diagnose
from eccos_aios.hooks.doctor.finding import Finding as Finding
