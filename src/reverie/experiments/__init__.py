"""Many runs from one plan: environments x variants x seeds, in child processes, resumable."""
