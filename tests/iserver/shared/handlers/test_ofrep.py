from tests.iserver.handlers.test_ofrep import *  # noqa: F403
