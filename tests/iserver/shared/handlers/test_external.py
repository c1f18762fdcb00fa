from tests.iserver.handlers.test_external import *  # noqa: F403
