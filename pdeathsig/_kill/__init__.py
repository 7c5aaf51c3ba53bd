"""Ending trees and groups that others started."""
