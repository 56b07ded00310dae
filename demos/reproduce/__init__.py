"""The paper's tables and figures, run by one command and compared with its claims: python -m demos.reproduce."""
