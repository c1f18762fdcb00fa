from tests.iserver.handlers.test_signal import *  # noqa: F403
