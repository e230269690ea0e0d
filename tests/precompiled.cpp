// Nothing: the target has a precompiled header for the tests to share.
