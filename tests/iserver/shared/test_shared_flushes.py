from tests.iserver.test_flushes import *  # noqa: F403
