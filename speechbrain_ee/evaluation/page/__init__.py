# SPDX-License-Identifier: Apache-2.0
"""The report page: one HTML file that shows what every policy does and works offline."""
