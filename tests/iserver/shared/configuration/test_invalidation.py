from tests.iserver.configuration.test_invalidation import *  # noqa: F403
