from tests.builder.conftest import undisturbed as undisturbed
