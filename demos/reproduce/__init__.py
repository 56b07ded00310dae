"""The paper's tables and figures, run by one command and held against its claims: python -m demos.reproduce."""
