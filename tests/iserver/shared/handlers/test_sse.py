from tests.iserver.handlers.test_sse import *  # noqa: F403
