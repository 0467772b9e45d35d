# For the pip of EL 8, which knows no pyproject.toml; setup.cfg says it all.
from setuptools import setup

setup()
