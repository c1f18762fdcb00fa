from tests.iserver.handlers.test_session import *  # noqa: F403
