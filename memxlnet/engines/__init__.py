"""Engines that encode the chunks of a build as executors: Ray and Spark. Each module loads its engine."""
