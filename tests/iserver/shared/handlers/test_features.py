from tests.iserver.handlers.test_features import *  # noqa: F403
