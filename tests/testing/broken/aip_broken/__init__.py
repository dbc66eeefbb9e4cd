"""A plugin for each check, with one fault each.

The name of each is that of the check it fails, with its kind if several kinds have such a check.
"""

from aipcore.plugin import (
    CallbackRecord,
    CommandRecord,
    ExporterRecord,
    OptimizerRecord,
    ScenarioRecord,
    ScheduleRecord,
    WriterRecord,
    hookimpl,
)


def _record(cls, name, *, params="Plain", build="build", summary="Does nearly everything right.", **more):
    kind = cls.kind
    return cls(
        name=name,
        summary=summary,
        params=f"aip_broken.{kind}_params:{params}",
        build=f"aip_broken.{kind}s:{build}",
        **more,
    )


@hookimpl
def aip_optimizers():
    """Return the optimizers."""

    def record(name, **more):
        return _record(OptimizerRecord, name, **more)

    return [
        OptimizerRecord(
            name="discovered_without_tensorflow",
            summary="Does nearly everything right.",
            params="aip_broken.heavy:Heavy",
            build="aip_broken.optimizers:build",
        ),
        record("has_a_summary", params="Untold", summary="Steps"),
        record("parameters_can_be_created", params="Required"),
        record("parameters_are_documented", params="Undocumented"),
        record("parameters_round_trip", params="Changing"),
        record("limits_hold", params="Lying"),
        record("builds", params="ForBuilds", build="build_name"),
        record("builds_at_its_limits", params="Momentum", build="build_choosy"),
        record("uses_the_learning_rate", params="ForRate", build="build_restless"),
        record("leaves_the_rest_to_the_loop", params="ForClipping", build="build_clipping"),
        record("golden_steps", params="ForGolden"),
        record("minimizes_a_quadratic", params="ForQuadratic", build="build_slow_for_vectors"),
        record("descends_rosenbrock", params="ForRosenbrock", build="build_tired"),
        record("is_traced_once", params="ForTrace", build="build_counting_twice"),
        record("keeps_dtypes", params="ForDtypes", build="build_adam"),
        record("resumes_at_every_step", params="ForResume", build="build_forgetful"),
        record("same_under_xla", params="ForXla", build="build_uncompilable"),
    ]


@hookimpl
def aip_schedules():
    """Return the schedules."""

    def record(name, cls):
        return _record(ScheduleRecord, name, params=f"{cls}Params", build=f"build_{cls.lower()}")

    return [
        record("builds", "Number"),
        record("builds_at_its_limits", "Choosy"),
        record("gives_a_float32_scalar", "Double"),
        record("is_pure", "Counting"),
        record("is_finite_everywhere", "Overflowing"),
        record("is_never_negative", "Falling"),
        record("works_when_compiled", "Eager"),
        record("follows_lr", "Stubborn"),
    ]


@hookimpl
def aip_scenarios():
    """Return the scenarios."""
    names = (
        "is_a_scenario",
        "data_is_reproducible",
        "data_fits_the_model",
        "monitor_exists",
        "runs_are_reproducible",
        "overfits_a_few_samples",
        "exports",
    )
    return [
        ScenarioRecord(
            name=name,
            summary="Does nearly everything right.",
            build=f"aip_broken.scenarios:{name.title().replace('_', '')}",
        )
        for name in names
    ]


@hookimpl
def aip_callbacks():
    """Return the callbacks."""
    names = (
        "builds",
        "builds_at_its_limits",
        "runs_in_training",
        "keeps_the_order_of_hooks",
        "changes_nothing",
        "keeps_its_state",
        "resumes_bit_identically",
        "writes_into_its_folder",
    )
    return [
        _record(CallbackRecord, name, params=f"{name.title().replace('_', '')}Params", build=f"build_{name}")
        for name in names
    ]


@hookimpl
def aip_exporters():
    """Return the exporters."""
    names = (
        "builds",
        "builds_at_its_limits",
        "writes_into_its_folder",
        "reloads_in_another_process",
        "gives_the_same_numbers",
        "takes_any_batch",
        "writes_current_weights",
        "takes_several_inputs_and_outputs",
        "a_failing_write_leaves_nothing",
    )
    loads = {
        "reloads_in_another_process": "load_nothing",
        "gives_the_same_numbers": "load_nearly",
        "takes_any_batch": "load_for_four",
    }
    return [
        _record(
            ExporterRecord,
            name,
            params=f"{name.title().replace('_', '')}Params",
            build=f"build_{name}",
            load=f"aip_broken.exporters:{loads.get(name, 'load')}",
        )
        for name in names
    ]


@hookimpl
def aip_writers():
    """Return the writers."""
    names = ("writes_all_predictions", "accepts_no_predictions", "reports_unwritable_paths")
    return [
        WriterRecord(
            name=name,
            summary="Does nearly everything right.",
            suffix=f".{name}",
            build=f"aip_broken.writers:{name}",
        )
        for name in names
    ]


@hookimpl
def aip_commands():
    """Return the commands."""
    modules = {
        "discovered_without_tensorflow": "heavy:hello",
        "is_a_command": "commands:function",
        "has_help_without_tensorflow": "commands:slow_help",
        "refuses_unknown_options": "commands:lenient",
    }
    return [
        CommandRecord(name=name, summary="Does nearly everything right.", build=f"aip_broken.{target}")
        for name, target in modules.items()
    ]


AIP_TESTING = {
    "golden_steps": {"golden": "aip_broken.optimizers:golden"},
    "minimizes_a_quadratic": {"dtypes": ("float32", "float64")},
    "resumes_bit_identically": {"observer": False},
    # At this rate nothing diverges, so that no other attempt resets the plugin's hidden state.
    "resumes_at_every_step": {"rates": (0.0025,)},
}
